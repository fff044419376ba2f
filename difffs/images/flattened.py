"""Makedumpfile's flattened form: a file as it was written, record by record, to a pipe.

``dump-guest-memory`` of QEMU with ``format=kdump-zlib`` and ``makedumpfile -F`` write it: a header
of 4096 bytes, then records of an offset, a length and so many bytes, numbers big endian, until both
are -1. Inside is a kdump file, whose headers, bitmaps, descriptors and pages come interleaved.
"""

import struct
from bisect import bisect_right
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from difffs.images.assembly import Assembly
from difffs.images.format import Format, NotThisFormat
from difffs.images.kdump_header import (
    DESCRIPTOR_BYTES,
    MAIN_HEADER_BYTES,
    SIGNATURES,
    MainHeader,
    layout,
    main_header,
)
from difffs.images.kdump_pages import KdumpPages, Place, unpackers
from difffs.images.source import Source

SIGNATURE = b"makedumpfile".ljust(16, b"\0")
HEADER_BYTES = 4096
_RECORD = struct.Struct(">qq")
_END = (-1, -1)
_ERASED = range(44, 80)
"""Bytes of the sub header among which is where to read what has been erased, and nothing that tells
where pages are: in versions of 32 and of 64 bits."""
_PARTS_LIMIT = 4096
"""Parts of headers and bitmaps that lie apart from one another."""


def matches(prefix: memoryview) -> bool:
    """Whether it begins as the flattened form does."""
    return bytes(prefix[:16]) == SIGNATURE


class _Parts:
    """Which bytes of a file have been given, as parts that touch nowhere."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """How many parts there are."""
        return len(self._starts)

    def known(self, start: int, end: int) -> bool | None:
        """Whether all of them (one or more) have been given; None for some."""
        at = bisect_right(self._starts, start)
        if at and end <= self._ends[at - 1]:
            return True
        before = at and self._ends[at - 1] > start
        behind = at < len(self._starts) and self._starts[at] < end
        return None if before or behind else False

    def add(self, start: int, end: int) -> None:
        """They are given now, and none of them was."""
        at = bisect_right(self._starts, start)
        if at and self._ends[at - 1] == start:
            self._ends[at - 1] = end
            at -= 1
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)
        if at + 1 < len(self._starts) and self._starts[at + 1] == end:
            self._ends[at] = self._ends.pop(at + 1)
            del self._starts[at + 1]


class _Records:
    """Takes the records one by one."""

    def __init__(self, header: MainHeader, source: Source, assembly: Assembly) -> None:
        self._header = header
        self._source = source
        self._assembly = assembly
        self._place = Place(assembly, contained=True)
        self._bitmaps = (1 + header.sub_header_blocks) * header.block_size
        self._descriptors = self._bitmaps + header.bitmap_blocks * header.block_size
        self._parts = _Parts()
        self._start = bytearray(header.block_size + header.sub_header_bytes)
        """The first bytes of the kdump file, up to the end of its sub header."""
        self._stack = ExitStack()
        self.pages: KdumpPages | None = None
        """What takes the pages, once the sub header has come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def record(self, offset: int, length: int) -> None:
        """Takes a record whose offset and length have been taken, and its data."""
        source, assembly = self._source, self._assembly
        before = min(offset + length, self._descriptors)
        if offset < before:
            known = self._parts.known(offset, before)
            if known is None or (known and self._bitmaps < offset + length):
                raise source.damaged("a record that overlaps others")
            if known:
                self._written_again(offset, length)
                return
            self._parts.add(offset, before)
            if len(self._parts) > _PARTS_LIMIT:
                raise source.damaged("headers and bitmaps in too many parts")
        assembly.container_record(offset, length)
        for piece in source.pieces(length, "a record"):
            self._piece(offset, piece)
            offset += len(piece)
        self._described()

    def _written_again(self, offset: int, length: int) -> None:
        """Keeps a record of headers that have been there as it is. Makedumpfile writes its sub
        header once more when it has erased something, to tell where it says what."""
        self._assembly.container_literal(_RECORD.pack(offset, length))
        start = self._header.block_size + _ERASED.start
        end = self._header.block_size + _ERASED.stop
        for piece in self._source.pieces(length, "a record"):
            for at, byte in enumerate(piece[: max(0, len(self._start) - offset)], offset):
                if byte != self._start[at] and not start <= at < end:
                    raise self._source.damaged("a header that is not what it was before")
            offset += len(piece)
            self._assembly.container_literal(piece)

    def _described(self) -> KdumpPages | None:
        """What takes the pages, once the sub header has come, which tells where they belong."""
        if self.pages is not None:
            return self.pages
        if not self._parts.known(0, MAIN_HEADER_BYTES) or not self._parts.known(
            self._header.block_size, max(len(self._start), self._header.block_size + 1)
        ):
            return None
        described = layout(
            self._header, bytes(self._start[self._header.block_size :]), self._source
        )
        self.pages = self._stack.enter_context(
            KdumpPages(described, self._source, self._assembly, self._place)
        )
        self._assembly.details(format="flattened", **described.facts)
        return self.pages

    def _piece(self, position: int, data: memoryview) -> None:
        """Takes bytes of the kdump file."""
        while data:
            if position < self._bitmaps:
                count = self._head(position, data)
            elif (pages := self._described()) is None:
                raise self._source.damaged("records of pages before the kdump sub header")
            elif position < self._descriptors:
                count = self._bitmap(pages, position, data)
            else:
                count = self._page(pages, position, data)
            position += count
            data = data[count:]

    def _literal(self, position: int, data: memoryview) -> None:
        self._place.at(position, len(data))
        self._assembly.literal(data)

    def _head(self, position: int, data: memoryview) -> int:
        """Takes bytes of headers and notes; returns how many."""
        data = data[: self._bitmaps - position]
        seen = data[: max(0, len(self._start) - position)]
        self._start[position : position + len(seen)] = seen
        self._literal(position, data)
        return len(data)

    def _bitmap(self, pages: KdumpPages, position: int, data: memoryview) -> int:
        """Takes bytes of the bitmaps; returns how many."""
        start = pages.layout.bitmap
        end = start + pages.layout.bitmap_bytes
        until = start if position < start else end if position < end else self._descriptors
        data = data[: until - position]
        self._literal(position, data)
        if until == end:
            if position != pages.bitmap_end:
                raise self._source.damaged("parts of the bitmap in no order")
            pages.bitmap(data)
        return len(data)

    def _page(self, pages: KdumpPages, position: int, data: memoryview) -> int:
        """Takes bytes of page descriptors or page data; returns how many."""
        begin = pages.data
        if position == pages.descriptors_end and (begin is None or position < begin):
            data = data if begin is None else data[: begin - position]
            pages.descriptors(data)
            return len(data)
        if begin is None:
            # The first data tell where they begin, while the bitmap has not come to its end.
            table = position - self._descriptors
            if position < pages.descriptors_end or table % DESCRIPTOR_BYTES:
                raise self._source.damaged("a record that overlaps others")
            pages.begin_data(position)
        if position != pages.data_end:
            raise self._source.damaged(
                f"a record for {position:,} of the kdump file, where {pages.data_end:,} is next"
            )
        pages.data_waiting(data)
        return len(data)


def _kdump_header(source: Source) -> MainHeader:
    """Looks ahead at the main header of the kdump file inside."""
    start = bytes(source.peek(HEADER_BYTES + _RECORD.size + MAIN_HEADER_BYTES))
    kind = struct.unpack_from(">qq", start.ljust(32, b"\0"), len(SIGNATURE))
    if len(start) >= 32 and kind != (1, 1):
        raise NotThisFormat(f"makedumpfile's flattened form of type and version {kind}")
    if len(start) < HEADER_BYTES + _RECORD.size + MAIN_HEADER_BYTES:
        raise source.damaged("it ends within the first header", len(start))
    offset, length = _RECORD.unpack_from(start, HEADER_BYTES)
    head = start[HEADER_BYTES + _RECORD.size :]
    if offset or length < MAIN_HEADER_BYTES or head[:8] not in SIGNATURES:
        raise NotThisFormat(
            "makedumpfile's flattened form of something else than a kdump file, an ELF dump"
            " perhaps: makedumpfile -R makes that of it"
        )
    return main_header(head, source)


def read(source: Source, assembly: Assembly) -> None:
    """Reads a flattened kdump file from front to back."""
    header = _kdump_header(source)
    unpackers(header.status, source.name)
    assembly.begin_container()
    assembly.container_literal(source.take(HEADER_BYTES, "the header"))
    with _Records(header, source, assembly) as records:
        while True:
            at = source.position
            offset, length = _RECORD.unpack(source.take(_RECORD.size, "a record's header"))
            if (offset, length) == _END:
                break
            if not 0 <= offset <= offset + length < 1 << 62:
                raise source.damaged(f"a record of {length:,} bytes for {offset:,}", at)
            records.record(offset, length)
        if records.pages is None:
            raise source.damaged("no kdump sub header in it")
        records.pages.end()
    assembly.container_literal(_RECORD.pack(*_END))
    for piece in source.rest():
        if any(piece):
            assembly.unusual("bytes behind the end mark, which are kept as they are")
        assembly.container_literal(piece)


FORMAT = Format(
    name="flattened",
    title="flattened kdump file of QEMU or makedumpfile",
    matches=matches,
    read=read,
)
