"""Whether what a reader tells of an image is so: compared with the image, call by call.

Nothing is kept but where memory lies, so that an image that tells of terabytes costs nothing.
"""

import json
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator

from difffs.errors import UsageError
from difffs.images.assembly import PAGE_SIZE, Block, Packing
from difffs.images.source import PositionedRead, Source
from difffs.page import MAXIMUM_VOLUME_SIZE

MOST_UNPACKED = 4 << 20
"""Bytes that are unpacked of a compressed image: a few KiB may hold gigabytes."""


ZEROS_FOR_A_BYTE = 1 << 18
"""Bytes of memory that a reader may say are zeros for each byte of an image."""


class Violation(AssertionError):
    """A reader has done what it must not."""


class Enough(Exception):
    """An image goes on for longer than it is looked at."""


class WatchedSource(Source):
    """A source of which is known what was unpacked."""

    def __init__(
        self, chunks: Iterator[bytes], *, size: int | None, read_at: PositionedRead | None
    ) -> None:
        super().__init__(chunks, size=size, read_at=read_at)
        self.inner = bytearray()
        """The bytes of the unpacked image that have come, from `inner_start` on."""
        self.inner_start = 0

    def unpack(self, head: bytes, chunks: Iterator[memoryview] | Iterator[bytes]) -> Source:
        self.inner += head
        return super().unpack(head, self._recorded(chunks))

    def _recorded(self, chunks: Iterator[memoryview] | Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.inner += chunk
            if self.inner_start + len(self.inner) > MOST_UNPACKED:
                raise Enough
            yield bytes(chunk)

    def forget(self, end: int) -> None:
        """What lies before `end` of the unpacked image has been compared."""
        if end - self.inner_start > 1 << 20:
            del self.inner[: end - self.inner_start]
            self.inner_start = end


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise Violation(text)


class ComparingAssembly:
    """Compares what it is told with the image. finish() at the end."""

    def __init__(self, image: bytes, source: WatchedSource) -> None:
        self._image = image
        self._source = source
        self._is_packed = False
        self._position = 0
        self._lengths: list[int] = []
        self._main = -1
        self._facts: dict[str, object] = {}
        self._fixed: list[tuple[Block, int, int, int]] = []
        """Memory that has no other place than the file's: block, start, end, number of the call."""
        self._loose: list[tuple[Block, int, int, int]] = []
        """Memory that may be replaced."""
        self._calls = 0
        self._zeros = 0
        self._notes: list[str] = []
        self._contained = False
        self._inner: list[tuple[int, bytes]] = []
        """What a container holds: (position, bytes)."""
        self._outer = 0
        self._references: list[tuple[int, int, int]] = []
        """(place in the image, offset in the inner file, length)."""

    @property
    def summary(self) -> str:
        """What kinds of things were told, for who looks for new ones."""
        return f"{sorted(self._facts)} {self._notes} {bool(self._fixed)} {bool(self._loose)}"

    # ---- what covers -------------------------------------------------------------------------

    def _room(self, count: int) -> None:
        """To be asked before something is made of a count."""
        _require(count >= 0, f"covers {count} bytes")
        if self._contained:
            _require(count <= 1 << 20, f"an inner file of {len(self._image)} bytes has {count:,}")
        elif self._is_packed:
            end = self._source.inner_start + len(self._source.inner)
            _require(self._position + count <= end, "covers more than has come")
        else:
            _require(self._position + count <= len(self._image), "covers more than there is")

    def _cover(self, data: memoryview | bytes) -> None:
        if self._contained:
            self._inner.append((self._position, bytes(data)))
        elif self._is_packed:
            source = self._source
            _require(self._position >= source.inner_start, "covers what was before")
            same = source.inner.startswith(data, self._position - source.inner_start)
            _require(same, f"covers other bytes than those unpacked at {self._position}")
            source.forget(self._position + len(data))
        elif not self._image.startswith(data, self._position):
            raise Violation(f"covers other bytes than those of the image at {self._position}")
        self._position += len(data)

    def literal(self, data: memoryview | bytes) -> None:
        self._cover(data)

    def zeros(self, count: int) -> None:
        self._room(count)
        self._cover(bytes(count))

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._put(self._fixed, block, offset, len(data))
        self._cover(data)

    def page_records(
        self, block: Block, offset: int, first: int, pages: memoryview | bytes
    ) -> None:
        _require(offset % PAGE_SIZE == 0, "records of pages at no page")
        _require(len(pages) > 0 and len(pages) % PAGE_SIZE == 0, "records of no whole pages")
        self._put(self._loose, block, offset, len(pages))
        for start in range(0, len(pages), PAGE_SIZE):
            self._cover(struct.pack(">Q", first + start) + pages[start : start + PAGE_SIZE])

    def zero_records(self, block: Block, offset: int, first: int, count: int) -> None:
        _require(offset % PAGE_SIZE == 0, "records of pages at no page")
        _require(count > 0, "records of no pages")
        self._room(9 * count)
        self._put(self._loose, block, offset, count * PAGE_SIZE)
        for index in range(count):
            self._cover(struct.pack(">QB", first + index * PAGE_SIZE, 0))

    def packed_pages(
        self,
        packing: Packing,
        block: Block,
        offset: int,
        pages: memoryview | bytes,
        sizes: list[int],
    ) -> None:
        _require(packing is Packing.ZLIB_1, "an unknown packing")
        _require(offset % PAGE_SIZE == 0, "packed pages at no page")
        _require(len(pages) == len(sizes) * PAGE_SIZE, "other numbers of pages and sizes")
        self._put(self._fixed, block, offset, len(pages))
        for index, size in enumerate(sizes):
            packed = zlib.compress(pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE], 1)
            _require(len(packed) == size < 1 << 16, "a packed page has another size")
            self._cover(packed)

    def descriptors(self, offsets_from: int, sizes: list[int], flags: int) -> None:
        for size in sizes:
            _require(0 <= size < 1 << 16 and 0 <= flags < 1 << 16, "a descriptor has no room")
            self._cover(struct.pack("<QIIQ", offsets_from, size, flags, 0))
            offsets_from += size

    def repeated(self, data: bytes, count: int) -> None:
        _require(0 < len(data) <= PAGE_SIZE and 0 <= count < 1 << 32, "repeats what is too long")
        self._room(len(data) * count)
        self._cover(data * count)

    # ---- what covers nothing -----------------------------------------------------------------

    def details(self, **facts: object) -> None:
        self._facts.update(facts)

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        _require(self._main < 0, "blocks are told twice")
        self._main = memory  # and stays that: a store gives it a volume of its own
        self._new_blocks(blocks, memory)

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        _require(self._main >= 0, "more blocks before the first")
        self._new_blocks(blocks, memory)

    def _new_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        for name, length in blocks:
            name.encode()
            _require(0 <= length <= MAXIMUM_VOLUME_SIZE, f"a block of {length:,} bytes")
            self._lengths.append(length)
        _require(0 <= memory < len(self._lengths), "the guest's memory is no block")

    def grow(self, block: Block, length: int) -> None:
        _require(block == self._main, "another block than the guest's memory grows")
        _require(self._lengths[block] <= length <= MAXIMUM_VOLUME_SIZE, f"grows to {length:,}")
        self._lengths[block] = length

    def _put(
        self, where: list[tuple[Block, int, int, int]], block: Block, offset: int, length: int
    ) -> None:
        _require(0 <= block < len(self._lengths), "memory of no block")
        _require(0 <= offset <= self._lengths[block] - length, "memory behind its block's end")
        self._calls += 1
        if length:
            where.append((block, offset, offset + length, self._calls))

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._put(self._loose, block, offset, len(data))

    def zero_memory(self, block: Block, offset: int, length: int) -> None:
        _require(offset % PAGE_SIZE == length % PAGE_SIZE == 0, "zeros of no whole pages")
        _require(length >= 0, "zeros of less than nothing")
        self._put(self._loose, block, offset, length)
        # A store writes down each page that is zeros, and so must not do so for a header's claim.
        self._zeros += length
        if not self._is_packed:
            most = (len(self._image) + 8) * ZEROS_FOR_A_BYTE
            _require(self._zeros <= most, f"tells of {self._zeros:,} bytes of zeros")

    def unusual(self, text: str) -> None:
        _require("\n" not in text, "a note of two lines")
        if len(self._notes) < 8:
            self._notes.append(text)

    def packed(
        self, compression: str, start: int, replaced: list[tuple[int, bytes]], like: bytes = b""
    ) -> None:
        _require(self._position == 0, "is packed after something was covered")
        if self._is_packed:
            raise UsageError("compressed twice")
        self._is_packed = True

    # ---- containers --------------------------------------------------------------------------

    def begin_container(self) -> None:
        _require(self._position == 0 and not self._contained, "a container within something")
        self._contained = True

    def at(self, position: int) -> None:
        _require(self._contained and position >= 0, "is at a place of no container")
        self._position = position

    def container_literal(self, data: memoryview | bytes) -> None:
        same = self._image.startswith(data, self._outer)
        _require(same, f"covers other bytes than those of the container at {self._outer}")
        self._outer += len(data)

    def container_inner(self, offset: int, length: int) -> None:
        _require(offset >= 0 and length >= 0, "less than nothing of the inner file")
        _require(self._outer + length <= len(self._image), "covers more than there is")
        if length:
            self._references.append((self._outer, offset, length))
        self._outer += length

    def container_record(self, offset: int, length: int) -> None:
        self.container_literal(struct.pack(">QQ", offset, length))
        # A record is told before what it holds, and may turn out to be cut off.
        self._references.append((self._outer, offset, length))
        self._outer += length

    def container_zeros(self, count: int) -> None:
        _require(0 <= count <= len(self._image) - self._outer, "covers more than there is")
        self.container_literal(bytes(count))

    # ---- the end -----------------------------------------------------------------------------

    def finish(self) -> None:
        """The reader has come to the image's end and found nothing wrong."""
        if self._contained:
            _require(self._outer == len(self._image), "covers less than the container")
            self._compare_inner()
        elif self._is_packed:
            inner = self._source.unpacked
            _require(inner is not None and inner.at_end, "leaves bytes of what is unpacked")
            end = self._source.inner_start + len(self._source.inner)
            _require(self._position == end, "covers less than was unpacked")
        else:
            _require(self._position == len(self._image), "covers less than there is")
        json.dumps(self._facts).encode()
        if self._fixed:
            self._compare_memory()

    def _compare_inner(self) -> None:
        pieces = sorted(self._inner, key=lambda piece: piece[0])
        starts = [start for start, data in pieces if data]
        contents = [data for _start, data in pieces if data]
        end = 0
        for start, data in zip(starts, contents, strict=True):
            _require(start >= end, "covers bytes of the inner file twice")
            end = start + len(data)
        for place, offset, length in self._references:
            while length:
                index = bisect_right(starts, offset) - 1
                _require(index >= 0, "names bytes of the inner file that are not there")
                start = offset - starts[index]
                part = contents[index][start : start + length]
                _require(bool(part), "names bytes of the inner file that are not there")
                same = self._image.startswith(part, place)
                _require(same, f"has other bytes of the inner file than those at {place}")
                place, offset, length = place + len(part), offset + len(part), length - len(part)

    def _compare_memory(self) -> None:
        """Memory that only the file has is given once: what replaced it would be in the file."""
        fixed = sorted(self._fixed)
        block, end = -1, 0
        for each in fixed:
            if each[0] == block and each[1] < end:
                raise Violation(f"memory at {each[1]} of block {block} is in the file twice")
            block, end = each[0], each[2]
        for each in self._loose:
            at = bisect_right(fixed, (each[0], each[1], 1 << 63, 0))
            for other in fixed[max(at - 1, 0) :]:
                if other[0] != each[0] or other[1] >= each[2]:
                    if other[0] < each[0] or other[1] < each[1]:
                        continue
                    break
                if other[2] > each[1] and other[3] < each[3]:
                    raise Violation(f"memory at {each[1]} of block {each[0]} is replaced")
