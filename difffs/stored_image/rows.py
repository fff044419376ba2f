"""The rows of one file, as they are written."""

import heapq
from array import array
from collections.abc import Iterable, Iterator

from difffs.errors import ImageDamaged
from difffs.images.layout import Kind, Layout, Row, length_of, pack_row
from difffs.page import PAGE_SIZE
from difffs.stored_image.pages import read_bytes
from difffs.stored_image.skeleton import EXTENT_PAGES, Skeleton

_TIMES_LIMIT = (1 << 32) - 1
_SORTED = 1 << 14
"""Rows that are sorted together."""


class Rows:
    """The rows of one file, written as they come."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self.position = 0
        """Where the next row begins."""
        self.size = 0
        self.count = 0
        self.extents: list[tuple[int, int]] = []
        self._room = 0
        self._buffer = bytearray()
        self._buffer_page = 0
        self._last: Row | None = None
        self._last_end = 0
        self._in_order = True

    def add(
        self,
        length: int,
        kind: Kind,
        volume: int = 0,
        source: int = 0,
        second: int = 0,
        times: int = 0,
    ) -> None:
        """Adds a row for the next `length` bytes."""
        if not length:
            return
        row = Row(self.position, kind, volume, source, second, times)
        joined = self._joined(row)
        if joined is not None:
            self._last = joined
        else:
            self._put_last()
            if self.position != self.size:
                self._in_order = False
            self._last = row
        self.position += length
        self._last_end = self.position
        self.size = max(self.size, self.position)

    def _joined(self, row: Row) -> Row | None:
        """The last row and this one as one, if they go on from each other."""
        last = self._last
        if last is None or self._last_end != row.position or last.kind != row.kind:
            return None
        if row.kind == Kind.ZEROS:
            return last._replace(second=last.second + row.second)
        if row.kind in (Kind.COPY, Kind.INNER) and last.volume == row.volume:
            if last.source + last.second == row.source:
                return last._replace(second=last.second + row.second)
            return None
        if row.kind in (Kind.PAGE_RECORDS, Kind.ZERO_RECORDS) and last.volume == row.volume:
            behind = last.times * PAGE_SIZE
            follows = row.kind == Kind.ZERO_RECORDS or last.source + behind == row.source
            few = last.times + row.times <= _TIMES_LIMIT
            if follows and few and last.second + behind == row.second:
                return last._replace(times=last.times + row.times)
        return None

    def _put_last(self) -> None:
        if self._last is None:
            return
        if not self._buffer and not self._room:
            pages = EXTENT_PAGES << min(len(self.extents), 10)
            self.extents.append((self._skeleton.allocate(pages), pages))
            self._room = pages
            self._buffer_page = self.extents[-1][0]
        self._buffer += pack_row(self._last)
        self.count += 1
        self._last = None
        if len(self._buffer) == PAGE_SIZE:
            self._flush_page()

    def _flush_page(self) -> None:
        if self._buffer:
            self._buffer += bytes(-len(self._buffer) % PAGE_SIZE)
            self._skeleton.writer.write_pages(
                self._skeleton.inode.number, self._buffer_page, self._buffer
            )
            self._buffer = bytearray()
            self._buffer_page += 1
            self._room -= 1

    def finish(self) -> None:
        """Writes what is left; rows that came in no order are brought into it."""
        self._put_last()
        self._flush_page()
        if not self._in_order:
            self.rewrite(self._sorted_rows())

    def _sorted_rows(self) -> Iterator[Row]:
        """The rows by their position: sorted in parts, as numbers, for there may be millions."""
        positions = array("Q", (row.position for row in self.rows()))
        parts = [
            array(
                "I",
                sorted(range(start, min(start + _SORTED, self.count)), key=positions.__getitem__),
            )
            for start in range(0, self.count, _SORTED)
        ]
        layout = self.layout()
        return (layout.row(at) for at in heapq.merge(*parts, key=positions.__getitem__))

    def rows(self) -> Iterator[Row]:
        """The rows, after finish()."""
        layout = self.layout()
        return (layout.row(index) for index in range(self.count))

    def layout(self) -> Layout:
        """For reading them."""
        number = self._skeleton.inode.number
        writer = self._skeleton.writer

        def read(offset: int, out: memoryview) -> None:
            page = bytearray(PAGE_SIZE)
            writer.read(number, offset // PAGE_SIZE, page)
            out[:] = page[: len(out)]

        return Layout(self.count, self.size, self.extents, read)

    def rewrite(self, rows: Iterable[Row]) -> None:
        """Puts other rows, in order, in the place of these; what lies between them is zeros."""
        new = Rows(self._skeleton)
        new.size = self.size
        for row in rows:
            if row.position < new.position:
                raise ImageDamaged(
                    f"the image names its bytes at {row.position:,} twice; get it anew, or store it"
                    " --as-is"
                )
            if row.position > new.position:
                gap = row.position - new.position
                new._take(Row(new.position, Kind.ZEROS, second=gap), gap)
            new._take(row, self._length(row))
        if new.position < self.size:
            gap = self.size - new.position
            new._take(Row(new.position, Kind.ZEROS, second=gap), gap)
        new._put_last()
        new._flush_page()
        self.extents, self.count = new.extents, new.count

    def _take(self, row: Row, length: int) -> None:
        self._put_last()
        self._last = row
        self.position = row.position + length

    def _length(self, row: Row) -> int:
        """How many bytes a row is."""
        length = length_of(row)
        if length is not None:
            return length
        sizes = bytearray(2 * row.times)
        self._read_skeleton(row.second, memoryview(sizes))
        return sum(memoryview(sizes).cast("H"))

    def _read_skeleton(self, offset: int, out: memoryview) -> None:
        read_bytes(
            lambda first, pages: self._skeleton.writer.read(
                self._skeleton.inode.number, first, pages
            ),
            offset,
            out,
        )
