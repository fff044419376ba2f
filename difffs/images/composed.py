"""Files that are made up of a skeleton and of memory, read anywhere."""

import struct
from collections.abc import Callable
from typing import Protocol

from difffs.errors import CorruptStore
from difffs.images.layout import (
    MOST_SIZES,
    Kind,
    Layout,
    Row,
    Volume,
    length_of,
    packed_zlib,
)
from difffs.page import PAGE_SIZE

_HEADER = 8
_RECORD = _HEADER + PAGE_SIZE
_ZERO_RECORD = _HEADER + 1
_DESCRIPTOR = struct.Struct("<QIIQ")

_PIECE = 1 << 20
"""Bytes that one row makes at a time, at most: what a read holds beside its result."""

_HOLE_ROWS = 1 << 14
"""Rows that are looked at for a hole."""

_VOLUMES = frozenset(map(int, Volume))
_OF_VOLUMES = (Kind.COPY, Kind.PAGE_RECORDS, Kind.PACKED_ZLIB_1)
_WITH_HEADERS = (Kind.PAGE_RECORDS, Kind.ZERO_RECORDS)
_WITH_SIZES = (Kind.PACKED_ZLIB_1, Kind.DESCRIPTORS)

ReadVolume = Callable[[int, memoryview], None]
"""(offset, out): fills out with a volume's bytes, all of which are there."""


class Readable(Protocol):
    """A file."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read_into(self, offset: int, out: memoryview) -> int:
        """Fills out with bytes from the offset on; how many there were, fewer at the end."""


class ComposedFile:
    """A file whose bytes a layout tells. Not thread-safe."""

    def __init__(
        self,
        layout: Layout,
        skeleton: ReadVolume,
        memory: ReadVolume,
        inner: "ComposedFile | None" = None,
    ) -> None:
        """`skeleton` and `memory` read the two volumes; `inner` is what a container holds."""
        self._layout = layout
        self._volumes = {Volume.SKELETON: skeleton, Volume.MEMORY: memory}
        self._inner = inner

    @property
    def size(self) -> int:
        """Bytes."""
        return self._layout.size

    def read_into(self, offset: int, out: memoryview) -> int:
        """Fills out with bytes from the offset on; how many there were, fewer at the end."""
        end = min(offset + len(out), self.size)
        if offset >= end:
            return 0
        index = self._layout.find(offset)
        done = offset
        while done < end:
            row = self._layout.row(index)
            row_end = self._layout.end(index)
            if not row.position <= done < row_end:
                raise _damaged(row, "whose place is not where its neighbours' are")
            self._check(row, row_end - row.position)
            stop = min(end, row_end)
            while done < stop:
                piece = min(stop - done, _PIECE)
                self._make(row, done - row.position, out[done - offset : done - offset + piece])
                done += piece
            index += 1
        return end - offset

    def hole(self, offset: int) -> tuple[int, int]:
        """(start, end) of the first hole at or behind the offset that the layout itself knows of:
        whole pages of zero bytes that nothing is kept for, and at the file's end a part of one.
        Both are the size when there is none in the next 16,384 rows, which takes some 10 ms."""
        if offset >= self.size:
            return self.size, self.size
        index = self._layout.find(offset)
        last = min(index + _HOLE_ROWS, self._layout.count) - 1
        while self._is_zeros(index) and self._is_zeros(index - 1):
            if self._layout.row(index).position <= offset - offset % PAGE_SIZE:
                break
            index -= 1
        while index <= last:
            if self._is_zeros(index):
                first = self._layout.row(index)
                while index < last and self._is_zeros(index + 1):
                    index += 1
                end = self._layout.end(index)
                if end < self.size:
                    end -= end % PAGE_SIZE
                start = max(offset, -(-first.position // PAGE_SIZE) * PAGE_SIZE)
                if start < end:
                    return start, end
            index += 1
        return self.size, self.size

    def _is_zeros(self, index: int) -> bool:
        return index >= 0 and self._layout.row(index).kind == Kind.ZEROS

    def _check(self, row: Row, length: int) -> None:
        """CorruptStore unless the row can be `length` bytes: before anything is made by what it
        says."""
        count = length_of(row)
        if count is not None and count != length:
            raise _damaged(row, f"of {count:,} bytes where {length:,} should be")
        if row.kind in _OF_VOLUMES and row.volume not in _VOLUMES:
            raise _damaged(row, f"of a volume {row.volume}")
        if row.kind in _WITH_HEADERS and row.second + row.times * PAGE_SIZE > 1 << 64:
            raise _damaged(row, "whose headers have no room")
        if row.kind == Kind.REPEATED and not 0 < row.second <= PAGE_SIZE:
            raise _damaged(row, f"that repeats {row.second:,} bytes")
        if row.kind in _WITH_SIZES and (row.times > MOST_SIZES or row.source >> 63):
            raise _damaged(row, f"of {row.times:,} sizes")

    def _make(self, row: Row, start: int, out: memoryview) -> None:
        """Fills out with the row's bytes from `start` on."""
        match row.kind:
            case Kind.COPY:
                self._volumes[Volume(row.volume)](row.source + start, out)
            case Kind.ZEROS:
                out[:] = bytes(len(out))
            case Kind.PAGE_RECORDS:
                self._make_page_records(row, start, out)
            case Kind.ZERO_RECORDS:
                first, last = start // _ZERO_RECORD, -(-(start + len(out)) // _ZERO_RECORD)
                records = b"".join(
                    (row.second + index * PAGE_SIZE).to_bytes(_HEADER, "big") + b"\0"
                    for index in range(first, last)
                )
                start -= first * _ZERO_RECORD
                out[:] = records[start : start + len(out)]
            case Kind.PACKED_ZLIB_1:
                self._make_packed(row, start, out)
            case Kind.DESCRIPTORS:
                self._make_descriptors(row, start, out)
            case Kind.REPEATED:
                unit = self._skeleton(row.source, row.second)
                skip = start % row.second
                out[:] = (unit * ((skip + len(out)) // row.second + 1))[skip : skip + len(out)]
            case Kind.INNER | Kind.INNER_RECORD:
                self._make_inner(row, start, out)
            case _:
                raise CorruptStore(
                    f"the image's layout has a row of kind {row.kind}: use a newer difffs"
                )

    def _skeleton(self, offset: int, count: int) -> bytes:
        data = bytearray(count)
        self._volumes[Volume.SKELETON](offset, memoryview(data))
        return bytes(data)

    def _sizes(self, row: Row, first: int, count: int) -> "memoryview":
        """Sizes from the row's `first` on."""
        return memoryview(self._skeleton(row.second + 2 * first, 2 * count)).cast("H")

    def _make_page_records(self, row: Row, start: int, out: memoryview) -> None:
        first, last = start // _RECORD, -(-(start + len(out)) // _RECORD)
        pages = memoryview(bytearray((last - first) * PAGE_SIZE))
        self._volumes[Volume(row.volume)](row.source + first * PAGE_SIZE, pages)
        parts: list[bytes | memoryview] = []
        for index in range(last - first):
            parts.append((row.second + (first + index) * PAGE_SIZE).to_bytes(_HEADER, "big"))
            parts.append(pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])
        start -= first * _RECORD
        out[:] = b"".join(parts)[start : start + len(out)]

    def _make_packed(self, row: Row, start: int, out: memoryview) -> None:
        end = start + len(out)
        at = 0
        page = memoryview(bytearray(PAGE_SIZE))
        for index, size in enumerate(self._sizes(row, 0, row.times)):
            if at + size > start:
                self._volumes[Volume(row.volume)](row.source + index * PAGE_SIZE, page)
                packed = packed_zlib(page)
                if len(packed) != size:
                    raise CorruptStore(
                        "a page of the image compresses to another size than when it was"
                        " imported: the zlib of this machine is another; export --raw works"
                    )
                low, high = max(at, start), min(at + size, end)
                out[low - start : high - start] = packed[low - at : high - at]
            at += size
            if at >= end:
                return
        raise _damaged(row, "whose pages are shorter than it is")

    def _make_descriptors(self, row: Row, start: int, out: memoryview) -> None:
        first, last = start // _DESCRIPTOR.size, -(-(start + len(out)) // _DESCRIPTOR.size)
        sizes = self._sizes(row, 0, last)
        offset = row.source + sum(sizes[:first])
        records = bytearray()
        for size in sizes[first:]:
            records += _DESCRIPTOR.pack(offset, size, row.volume, 0)
            offset += size
        start -= first * _DESCRIPTOR.size
        out[:] = records[start : start + len(out)]

    def _make_inner(self, row: Row, start: int, out: memoryview) -> None:
        if self._inner is None:
            raise _damaged(row, "of an inner file, which there is none of")
        if row.kind == Kind.INNER_RECORD:
            header = row.source.to_bytes(8, "big") + row.second.to_bytes(8, "big")
            if start < len(header):
                count = min(len(out), len(header) - start)
                out[:count] = header[start : start + count]
                out = out[count:]
                start = len(header)
            start -= len(header)
        if len(out) and self._inner.read_into(row.source + start, out) != len(out):
            raise CorruptStore("the image's layout names bytes behind the inner file's end")


def _damaged(row: Row, text: str) -> CorruptStore:
    return CorruptStore(
        f"the image's layout has at {row.position:,} a row of kind {row.kind} {text}: run `difffs"
        " check`"
    )
