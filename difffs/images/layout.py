"""How a file is made up of a skeleton and of memory: rows, in the order of the file's bytes.

A *row* of 32 bytes says what the bytes from its position to the next row's are
(docs/store-format.md, "Images"). The skeleton is a volume that holds what is no memory, and the
rows themselves. Pure: what reads volumes is handed in.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from difffs.errors import CorruptStore
from difffs.page import PAGE_SIZE

ROW_BYTES = 32
ROWS_PER_PAGE = PAGE_SIZE // ROW_BYTES

MOST_SIZES = 4096
"""Packed pages, and descriptors, of one row: their sizes are read for any of its bytes."""

_ROW = struct.Struct("<QQQIHH")

_KEPT_PAGES = 64
"""Pages of rows in memory for each open file."""


class Kind(IntEnum):
    """What a row's bytes are."""

    COPY = 1
    """`second` bytes of the volume from `source` on."""
    ZEROS = 2
    """`second` zero bytes."""
    PAGE_RECORDS = 3
    """`times` times 8 bytes big endian, first `second`, each PAGE_SIZE higher, and a page; the
    pages lie in the volume from `source` on."""
    ZERO_RECORDS = 4
    """`times` times 8 bytes as above, and a byte 0."""
    PACKED_ZLIB_1 = 5
    """`times` pages of the volume from `source` on, each as ``zlib.compress(page, 1)``; their sizes
    (2 bytes each) lie in the skeleton at `second`."""
    DESCRIPTORS = 6
    """`times` page descriptors of kdump: offset (first `source`), size, `volume` as flags, 0. The
    sizes lie in the skeleton at `second`."""
    REPEATED = 7
    """`times` times the `second` bytes of the skeleton at `source`."""
    INNER = 8
    """`second` bytes of the inner file from `source` on."""
    INNER_RECORD = 9
    """`source` and `second`, 8 bytes big endian each, and as above."""


class Volume(IntEnum):
    """Where a row's bytes lie."""

    SKELETON = 0
    MEMORY = 1


class Row(NamedTuple):
    """See :class:`Kind`. Positions and lengths are bytes."""

    position: int
    kind: int
    volume: int = 0
    source: int = 0
    second: int = 0
    times: int = 0
    """Below 2^32."""


def pack_row(row: Row) -> bytes:
    """The row's 32 bytes."""
    return _ROW.pack(row.position, row.source, row.second, row.times, row.kind, row.volume)


def unpack_rows(data: bytes | bytearray | memoryview) -> list[Row]:
    """The rows in these bytes, a multiple of 32."""
    return [
        Row(position, kind, volume, source, second, times)
        for position, source, second, times, kind, volume in _ROW.iter_unpack(data)
    ]


def length_of(row: Row) -> int | None:
    """How many bytes a row is by what it says; None where only the sizes of its pages tell, and for
    kinds that are not known."""
    match row.kind:
        case Kind.COPY | Kind.ZEROS | Kind.INNER:
            return row.second
        case Kind.PAGE_RECORDS:
            return row.times * (8 + PAGE_SIZE)
        case Kind.ZERO_RECORDS:
            return row.times * 9
        case Kind.DESCRIPTORS:
            return row.times * 24
        case Kind.REPEATED:
            return row.times * row.second
        case Kind.INNER_RECORD:
            return 16 + row.second
        case _:
            return None


def packed_zlib(page: memoryview | bytes) -> bytes:
    """A page as kdump files hold it."""
    import zlib

    return zlib.compress(page, 1)


class Layout:
    """The rows of one file, found by position: a few pages of them are in memory at a time."""

    def __init__(
        self,
        count: int,
        size: int,
        extents: list[tuple[int, int]],
        read: Callable[[int, memoryview], None],
    ) -> None:
        """`count` rows, one page after the other, in `extents` (first page, pages) of the skeleton,
        which `read` reads (offset, out). `size` is the file's. CorruptStore when there cannot be
        such a file."""
        if size < 0 or count < 0 or (size and not count):
            raise CorruptStore(
                f"the image's layout is of {size:,} bytes and {count:,} rows: run `difffs check`"
            )
        self.size = size
        self.count = count
        self._extents = extents
        self._read = read
        self._pages: OrderedDict[int, list[Row]] = OrderedDict()

    def _rows(self, page: int) -> list[Row]:
        """The rows of one of the layout's pages."""
        rows = self._pages.get(page)
        if rows is not None:
            self._pages.move_to_end(page)
            return rows
        data = bytearray(min(ROWS_PER_PAGE, self.count - page * ROWS_PER_PAGE) * ROW_BYTES)
        self._read(self._place(page) * PAGE_SIZE, memoryview(data))
        rows = self._pages[page] = unpack_rows(data)
        if len(self._pages) > _KEPT_PAGES:
            self._pages.popitem(last=False)
        return rows

    def _place(self, page: int) -> int:
        """The page of the skeleton that holds one of the layout's."""
        for first, pages in self._extents:
            if page < pages:
                return first + page
            page -= pages
        raise CorruptStore("the image's layout ends early: run `difffs check`")

    def row(self, index: int) -> Row:
        """The row of that index, from 0 on."""
        page, at = divmod(index, ROWS_PER_PAGE)
        return self._rows(page)[at]

    def end(self, index: int) -> int:
        """The position where a row's bytes end."""
        return self.row(index + 1).position if index + 1 < self.count else self.size

    def find(self, position: int) -> int:
        """The index of the row that has the byte at a position below the size."""
        low, high = 0, (self.count - 1) // ROWS_PER_PAGE
        while low < high:  # the last page that begins at or before the position
            middle = (low + high + 1) // 2
            if self._rows(middle)[0].position <= position:
                low = middle
            else:
                high = middle - 1
        rows = self._rows(low)
        first, last = 0, len(rows) - 1
        while first < last:
            middle = (first + last + 1) // 2
            if rows[middle].position <= position:
                first = middle
            else:
                last = middle - 1
        return low * ROWS_PER_PAGE + first
