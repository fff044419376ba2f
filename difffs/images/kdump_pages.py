"""The pages of a kdump file: what its bitmap, its page descriptors and its page data are together.

The three come in their own order, and in that order each is given here as it arrives: one after the
other in a file, interleaved in makedumpfile's flattened form. The k-th descriptor is of the k-th
page in the bitmap. Descriptors of pages that have their own data follow one another in the data;
those of zero pages all lead to one stored page, the first. Nothing is kept per page but its size,
in two bytes, and what waits waits in a bounded piece of memory and then in a temporary file: a
guest of 64 GiB has 16.8 million descriptors before the first page. Descriptors wait for the end of
the bitmap, which tells how long the memory is: makedumpfile writes to a pipe, where it lacks memory
for a bitmap of all, the bitmap of some pages, these pages, and so on.
"""

import importlib
import re
import struct
import sys
import zlib
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import accumulate, groupby
from types import TracebackType
from typing import Self

from difffs.errors import EnvironmentProblem, ImageDamaged
from difffs.images.assembly import Assembly, Packing
from difffs.images.kdump_header import (
    COMPRESSIONS,
    DESCRIPTOR_BYTES,
    LZO,
    SNAPPY,
    ZLIB,
    ZSTD,
    Layout,
)
from difffs.images.physical import DEVICES_END, DEVICES_START, DeviceBlocks
from difffs.images.queue import ByteQueue
from difffs.images.source import Source
from difffs.page import PAGE_SIZE

Unpack = Callable[[bytes, int], bytes]
"""(a page's stored bytes, bytes of the page) -> the page; any exception when it cannot."""

_SHARED = -1
_MISSING = -2
_PIECE = 4 << 20
"""Bytes of memory that one call tells of, about."""
_BATCH = 8192
"""Descriptors that are worked through at once."""
_BITMAP_PIECE = 4096
_DEVICE_RANGES = 256
"""More than an x86 machine has: then these addresses are memory like all others."""
_RUN = struct.Struct("<QI")
_ENTRY = struct.Struct("<QBI")
_ONES = re.compile("1+")


def _unzlib(data: bytes, size: int) -> bytes:
    return zlib.decompressobj().decompress(data, size + 1)


def _unzstd(data: bytes, size: int) -> bytes:
    module = importlib.import_module("zstandard")
    # What a frame says of its content is made at once, however long that is.
    if module.get_frame_parameters(data).content_size not in (size, module.CONTENTSIZE_UNKNOWN):
        raise ValueError("another length")
    page: bytes = module.ZstdDecompressor().decompress(data, max_output_size=size)
    return page


def _unsnappy(data: bytes, size: int) -> bytes:
    module = importlib.import_module("cramjam")
    # The length comes first, seven bits a byte: looked at before anything is made of it.
    length = shift = 0
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length != size:
        raise ValueError("another length")
    return bytes(module.snappy.decompress_raw(data))


def _unlzo(data: bytes, size: int) -> bytes:
    module = importlib.import_module("lzo")
    page: bytes = module.decompress(data, False, size)
    return page


_UNPACK: dict[int, Unpack] = {ZLIB: _unzlib, LZO: _unlzo, SNAPPY: _unsnappy, ZSTD: _unzstd}
_LIBRARIES = {LZO: ("lzo", "python-lzo"), SNAPPY: ("cramjam", "cramjam"), ZSTD: ("zstandard",) * 2}


def unpacker(flags: int, name: str) -> Unpack:
    """What unpacks pages with these flags. EnvironmentProblem when its library is not there."""
    if flags in _LIBRARIES:
        module, package = _LIBRARIES[flags]
        try:
            importlib.import_module(module)
        except ImportError:
            raise EnvironmentProblem(
                f"image {name} has pages compressed with {COMPRESSIONS[flags]}, which this Python"
                f" cannot read: pip install {package}, or store the image --as-is"
            ) from None
    return _UNPACK[flags]


def unpackers(status: int, name: str) -> dict[int, Unpack]:
    """What unpacks the pages of a file whose main header has this status, by their flags."""
    return {flag: unpacker(flag, name) for flag in COMPRESSIONS if status & flag}


class Place:
    """Where the next call covers bytes: told to an assembly when it is not behind the last one. A
    file that is read from front to back needs none told."""

    def __init__(self, assembly: Assembly, *, contained: bool) -> None:
        self._assembly = assembly
        self._contained = contained
        self._position = 0

    def at(self, position: int, length: int) -> None:
        """The next call covers `length` bytes from there on."""
        if self._contained and position != self._position:
            self._assembly.at(position)
        self._position = position + length


class KdumpPages:
    """Takes the three parts of a kdump file as they come and tells an assembly of them. To be used
    as a context."""

    def __init__(self, layout: Layout, source: Source, assembly: Assembly, place: Place) -> None:
        self.layout = layout
        self.missing = 0
        """Pages whose descriptors are empty: the disk was full when the dump was made."""
        self._source = source
        self._assembly = assembly
        self._stack = ExitStack()
        # The bitmap.
        self._bitmap = self._queue(2 << 20)
        self._bitmap_given = 0
        self._bitmap_taken = 0
        self._runs: deque[tuple[int, int]] = deque()
        self._frames_ready = 0
        self._device_bits = b""
        self._memory_end = 0
        """The frame behind the last one that is of the guest's memory."""
        self._memory_goes_on = False
        """Whether memory lies right below the addresses of devices: then it is none of theirs."""
        self._edges: list[int] = []
        """Frames where another block of memory begins."""
        self._blocks = DeviceBlocks([])
        self.pages = 0
        """Pages that the file has, as far as the bitmap has been seen."""
        # Descriptors.
        self._descriptors = self._queue(2 << 20)
        self.descriptors_end = layout.descriptors
        """Where the next descriptor bytes that come are to lie."""
        self._descriptors_told = layout.descriptors
        self._next: int | None = None
        """Where the data of the next page that has its own lies."""
        # Data.
        self.data: int | None = None
        """Where the page data begins, once it is known."""
        self.data_end = 0
        """Where the next data bytes that come are to lie, once that is known."""
        self._waiting = self._queue(6 << 20)
        self._data_told = 0
        self._lead: int | None = None
        """Bytes of the shared page before the first page that has its own data."""
        self._entries = self._queue(4 << 20)
        """Runs of pages with data of their own: first frame, flags, number, and their sizes."""
        self._entry: tuple[int, int, array[int]] | None = None
        self._shared = self._queue(2 << 20)
        """Runs of frames that are the shared page."""
        self._shared_run = (0, 0)
        self._shared_page: bytes | None = None
        self._shared_zero = True
        # What this file is like.
        little = layout.header.little
        self._place = place
        self._swap = little != (sys.byteorder == "little")
        self._little = little
        self._size_shift = 0 if little else 32
        self._flags_shift = 32 if little else 0
        self._sizes = "H" if layout.block_size < 1 << 16 else "I"
        self._at_once = _PIECE // layout.block_size
        self._unpackers = unpackers(layout.header.status, source.name)

    def _queue(self, in_memory: int) -> ByteQueue:
        return self._stack.enter_context(ByteQueue(in_memory))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _damaged(self, text: str) -> ImageDamaged:
        return self._source.damaged(text)

    # ---- the bitmap --------------------------------------------------------------------------

    @property
    def bitmap_end(self) -> int:
        """Where the next bytes of the bitmap are to lie."""
        return self.layout.bitmap + self._bitmap_given

    @property
    def bitmap_complete(self) -> bool:
        """Whether all of the bitmap is there."""
        return self._bitmap_given == self.layout.bitmap_bytes

    def bitmap(self, data: memoryview | bytes) -> None:
        """The next bytes of the bitmap, for which the caller tells the assembly."""
        layout = self.layout
        start = 8 * self._bitmap_given
        bits = int.from_bytes(data, "little")
        if start + 8 * len(data) > layout.last_frame:
            bits &= (1 << max(0, layout.last_frame - start)) - 1
        if start < layout.first_frame:
            skipped = layout.first_frame - start
            bits = bits >> skipped << skipped
        meant = bits.to_bytes(len(data), "little")
        self._bitmap.put(meant)
        self._find_memory(meant, start, bits)
        self._bitmap_given += len(data)
        self.pages += bits.bit_count()
        if self.bitmap_complete:
            self._begin_memory()
            begin = layout.descriptors + self.pages * DESCRIPTOR_BYTES
            if self.data is None:
                self.begin_data(begin)
            elif self.data != begin:
                raise self._damaged(
                    f"its bitmap tells of {self.pages:,} pages, but page data begin at"
                    f" {self.data:,}, not at {begin:,}"
                )
        self._resolve()

    def _find_memory(self, data: bytes, start: int, bits: int) -> None:
        """Sees how far the memory goes, and what of the bitmap is of the addresses of devices."""
        low, high = (each // self.layout.block_size for each in (DEVICES_START, DEVICES_END))
        self._device_bits += data[max(0, low - start) // 8 : max(0, high - start) // 8]
        if start < low <= start + 8 * len(data):
            self._memory_goes_on = bool(bits >> (low - 1 - start) & 1)
        if start >= high and bits:
            self._memory_end = start + bits.bit_length()
        else:
            above = bits >> max(0, high - start)
            below = bits & ((1 << max(0, low - start)) - 1)
            if above:
                self._memory_end = high + above.bit_length()
            elif below:
                self._memory_end = start + below.bit_length()

    def _begin_memory(self) -> None:
        """All frames are known: tells the assembly of the blocks of memory."""
        block_size = self.layout.block_size
        low = DEVICES_START // block_size
        digits = format(int.from_bytes(self._device_bits, "little"), "b")[::-1]
        runs = [(low + run.start(), low + run.end()) for run in _ONES.finditer(digits)]
        if not self._may_have_devices or len(runs) > _DEVICE_RANGES:
            self._memory_end = max([self._memory_end, *(end for _start, end in runs)])
            runs = []
        elif runs and runs[0][0] == low and self._memory_goes_on:
            self._memory_end = max(self._memory_end, runs.pop(0)[1])
        self._edges = sorted(edge for run in runs for edge in run)
        self._blocks = DeviceBlocks([(a * block_size, b * block_size) for a, b in runs])
        self._assembly.blocks(self._blocks.blocks(self._memory_end * block_size), memory=0)

    @property
    def _may_have_devices(self) -> bool:
        """Whether this may be of an x86 machine: QEMU does not always tell."""
        header = self.layout.header
        machine = header.machine.partition("_")[0]
        known = machine in ("", "Unknown", "x86", "i386", "i486", "i586", "i686")
        return known and header.little and header.block_size == PAGE_SIZE

    def _ready(self, count: int) -> int:
        """Of `count` frames that are in the bitmap, how many are known so far."""
        while self._frames_ready < count:
            piece = self._bitmap.take(_BITMAP_PIECE)
            if not piece:
                return self._frames_ready
            start = self._bitmap_taken * 8
            self._bitmap_taken += len(piece)
            # Highest frame first in the number's digits; turned round, the lowest.
            digits = format(int.from_bytes(piece, "little"), "b")[::-1]
            for run in _ONES.finditer(digits):
                self._add_run(start + run.start(), start + run.end())
        return count

    def _add_run(self, first: int, end: int) -> None:
        """Frames that the file has pages of, cut where another block of memory begins."""
        self._frames_ready += end - first
        for edge in self._edges[bisect_right(self._edges, first) :]:
            if edge >= end:
                break
            self._runs.append((first, edge - first))
            first = edge
        self._runs.append((first, end - first))

    def _frames(self, count: int) -> Iterator[tuple[int, int]]:
        """Takes the next `count` frames, which are known, as runs: first frame and number."""
        self._frames_ready -= count
        while count:
            first, length = self._runs.popleft()
            if length > count:
                self._runs.appendleft((first + count, length - count))
                length = count
            yield first, length
            count -= length

    # ---- descriptors -------------------------------------------------------------------------

    def descriptors(self, data: memoryview | bytes) -> None:
        """The next bytes of the page descriptors."""
        self._descriptors.put(data)
        self.descriptors_end += len(data)
        if self.data is None and len(self._descriptors) >= DESCRIPTOR_BYTES:
            self._begin_data_by_descriptor()
        self._resolve()

    def _begin_data_by_descriptor(self) -> None:
        """Knows by the first descriptor where data begin, while the bitmap is not complete: there,
        or one page before, where the shared page is. Descriptors end where data begin, and no size
        of a page is a multiple of a descriptor's."""
        words = array("Q")
        words.frombytes(self._descriptors.peek(DESCRIPTOR_BYTES))
        if self._swap:
            words.byteswap()
        if not words[0]:
            return
        for start in (words[0], words[0] - self.layout.block_size):
            table = start - self.layout.descriptors
            if table % DESCRIPTOR_BYTES == 0 and start >= self.descriptors_end:
                self.begin_data(start)
                return
        raise self._damaged("page descriptors do not begin with the first page's data")

    def _resolve(self) -> None:
        """Tells of the descriptors whose frames are known, once it is known where data begin."""
        if self.data is None or not self.bitmap_complete:
            return
        while True:
            count = self._ready(min(_BATCH, len(self._descriptors) // DESCRIPTOR_BYTES))
            if not count:
                break
            self._descriptors_of(self._descriptors.take(count * DESCRIPTOR_BYTES))
        self._tell_waiting()

    def _descriptors_of(self, data: bytes) -> None:
        """Tells of whole descriptors."""
        assert self.data is not None
        words = array("Q")
        words.frombytes(data)
        if self._swap:
            words.byteswap()
        offsets, lengths, unusual = words[0::3], words[1::3], any(words[2::3])
        begin = self.data
        shared = self.layout.block_size << self._size_shift
        flags_shift = self._flags_shift
        kinds = [
            length >> flags_shift & 0xFFFFFFFF
            if offset > begin
            else _SHARED
            if offset == begin and length == shared
            else length >> flags_shift & 0xFFFFFFFF
            if offset
            else _MISSING
            for offset, length in zip(offsets, lengths, strict=True)
        ]
        entries: list[bytes] = []
        start = 0
        for kind, group in groupby(kinds):
            end = start + len(list(group))
            covered = data[start * DESCRIPTOR_BYTES : end * DESCRIPTOR_BYTES]
            self._place.at(self._descriptors_told, len(covered))
            self._descriptors_told += len(covered)
            if kind == _SHARED:
                if unusual:
                    self._assembly.literal(covered)
                else:
                    self._assembly.repeated(covered[:DESCRIPTOR_BYTES], end - start)
                self._share(end - start)
            elif kind == _MISSING:
                self._assembly.literal(covered)
                self.missing += end - start
                for _run in self._frames(end - start):
                    pass
            else:
                sizes = self._stored(kind, offsets[start:end], lengths[start:end])
                if unusual or not self._little or max(sizes) > 0xFFFF:
                    self._assembly.literal(covered)
                else:
                    self._assembly.descriptors(offsets[start], sizes.tolist(), kind)
                at = 0
                for frame, length in self._frames(end - start):
                    entries.append(_ENTRY.pack(frame, kind, length))
                    entries.append(sizes[at : at + length].tobytes())
                    at += length
            start = end
        self._entries.put(b"".join(entries))

    def _stored(self, flags: int, offsets: "array[int]", lengths: "array[int]") -> "array[int]":
        """Verifies descriptors of pages with data of their own; the sizes of these."""
        assert self.data is not None
        block_size = self.layout.block_size
        if flags not in self._unpackers and flags:
            if flags not in _UNPACK:
                raise self._damaged(f"a page descriptor with flags {flags:#x}")
            self._unpackers[flags] = unpacker(flags, self._source.name)
        if self._next is None:
            self._next = offsets[0]
            self._set_lead(offsets[0] - self.data)
        shift = self._size_shift
        sizes = [length >> shift & 0xFFFFFFFF for length in lengths]
        if min(sizes) == 0 or max(sizes) > block_size or (not flags and min(sizes) < block_size):
            raise self._damaged(f"a page descriptor with a size that no page of {block_size:,} has")
        places = list(accumulate(sizes, initial=self._next))
        self._next = places.pop()
        if offsets.tolist() != places:
            wrong = next(at for at, offset in enumerate(offsets) if offset != places[at])
            raise self._damaged(
                f"a page descriptor leads to {offsets[wrong]:,}, where the page before it ends at"
                f" {places[wrong]:,}"
            )
        return array(self._sizes, sizes)

    def _share(self, count: int) -> None:
        """The next `count` frames are the shared page."""
        self._set_lead(self.layout.block_size)
        for frame, length in self._frames(count):
            first, before = self._shared_run
            if first + before == frame and frame not in self._edges:
                self._shared_run = (first, before + length)
            else:
                self._put_shared()
                self._shared_run = (frame, length)

    def _set_lead(self, length: int) -> None:
        """Page data begin with so many bytes that are the shared page, or none's."""
        if self._lead is None and length in (0, self.layout.block_size):
            self._lead = length
        elif self._lead != length:
            raise self._damaged("page descriptors do not begin with the first page's data")

    # ---- data --------------------------------------------------------------------------------

    def begin_data(self, start: int) -> None:
        """Says where the page data begin."""
        self.data = self.data_end = self._data_told = start

    def data_waiting(self, data: memoryview | bytes) -> None:
        """The next bytes of page data, which may come before their descriptors."""
        self._waiting.put(data)
        self.data_end += len(data)
        self._resolve()

    def _tell_waiting(self) -> None:
        """Tells of the data that wait, as far as their descriptors have come."""
        while len(self._waiting):
            taken = self.tell(memoryview(self._waiting.peek(1 << 20)))
            if not taken:
                break
            self._waiting.skip(taken)

    def tell(self, data: memoryview) -> int:
        """Tells of the whole pages at the start of `data`, the page data that nothing has been told
        of yet; returns how many bytes that was. None when more is needed: of descriptors, or of
        data, LARGEST_BLOCK bytes at most."""
        taken = 0
        if self._shared_page is None:
            if self._lead is None or len(data) < self._lead:
                return 0
            taken = self._lead
            self._shared_page = bytes(data[:taken])
            self._shared_zero = not any(self._shared_page)
            self._literal(self._shared_page)
        while self._load():
            assert self._entry is not None
            frame, flags, sizes = self._entry
            ends = list(accumulate(sizes[: self._at_once], initial=taken))
            count = bisect_right(ends, len(data)) - 1
            if not count:
                break
            self._run(frame, flags, sizes[:count].tolist(), bytes(data[taken : ends[count]]))
            taken = ends[count]
            self._entry = (frame + count, flags, sizes[count:])
        self._put_shared()
        return taken

    def _load(self) -> bool:
        """Has the next run of pages with data of their own at hand; False when there is none."""
        if self._entry is None or not self._entry[2]:
            head = self._entries.take(_ENTRY.size)
            if not head:
                return False
            frame, flags, count = _ENTRY.unpack(head)
            sizes = array(self._sizes)
            sizes.frombytes(self._entries.take(count * sizes.itemsize))
            self._entry = (frame, flags, sizes)
        return True

    @property
    def data_expected(self) -> bool:
        """Whether page data are still to come, for the descriptors that have come."""
        return (self._shared_page is None and bool(self._lead)) or self._load()

    def _block_of(self, frame: int) -> tuple[int, int]:
        """The block that a frame is in, and the offset in it."""
        block, offset, _count = next(self._blocks.places(frame * self.layout.block_size, 1))
        return block, offset

    def _literal(self, data: bytes) -> None:
        """The next bytes of the page data, kept as they are."""
        if data:
            self._place.at(self._data_told, len(data))
            self._data_told += len(data)
            if any(data):
                self._assembly.literal(data)
            else:
                self._assembly.zeros(len(data))

    def _run(self, frame: int, flags: int, sizes: list[int], data: bytes) -> None:
        """Tells of neighbouring pages, alike compressed, and of the bytes that hold them."""
        block_size = self.layout.block_size
        if not flags:
            self._place.at(self._data_told, len(data))
            self._data_told += len(data)
            self._assembly.memory(*self._block_of(frame), data)
            return
        unpack = self._unpackers[flags]
        again = flags == ZLIB and block_size == PAGE_SIZE
        pages: list[bytes] = []
        same: list[bool] = []
        at = 0
        for size in sizes:
            packed = data[at : at + size]
            at += size
            try:
                page = unpack(packed, block_size)
            except Exception:
                page = b""
            if len(page) != block_size:
                raise self._damaged(
                    f"the page at {(frame + len(pages)) * block_size:#x} of the memory is not"
                    f" {COMPRESSIONS[flags]} of {block_size:,} bytes"
                )
            pages.append(page)
            same.append(again and zlib.compress(page, 1) == packed)
        start = at = 0
        for alike, group in groupby(same):
            end = start + len(list(group))
            length = sum(sizes[start:end])
            plain = b"".join(pages[start:end])
            block, offset = self._block_of(frame + start)
            if alike:
                self._place.at(self._data_told, length)
                self._data_told += length
                self._assembly.packed_pages(Packing.ZLIB_1, block, offset, plain, sizes[start:end])
            else:
                self._literal(data[at : at + length])
                self._assembly.memory_apart(block, offset, plain)
            at += length
            start = end

    # ---- the page that many share ------------------------------------------------------------

    def _put_shared(self) -> None:
        """Tells of the frames that are the shared page, or keeps them until it is known."""
        first, count = self._shared_run
        self._shared_run = (0, 0)
        if count:
            self._shared.put(_RUN.pack(first, count))
        if self._shared_page is None:
            return
        while len(self._shared):
            first, count = _RUN.unpack(self._shared.take(_RUN.size))
            self._tell_shared(first, count)

    def _tell_shared(self, first: int, count: int) -> None:
        assert self._shared_page is not None
        block_size = self.layout.block_size
        block, offset = self._block_of(first)
        if self._shared_zero:
            self._assembly.zero_memory(block, offset, count * block_size)
            return
        while count:
            pages = min(count, self._at_once)
            self._assembly.memory_apart(block, offset, self._shared_page * pages)
            offset += pages * block_size
            count -= pages

    # ---- the end -----------------------------------------------------------------------------

    def end(self) -> None:
        """All has come: what has been told is complete, or ImageDamaged."""
        layout = self.layout
        if not self.bitmap_complete:
            raise self._damaged("it ends within the bitmap of its pages")
        expected = layout.descriptors + self.pages * DESCRIPTOR_BYTES
        if self._descriptors_told != expected:
            left = (expected - self._descriptors_told) // DESCRIPTOR_BYTES
            raise self._damaged(f"it ends before {left:,} of {self.pages:,} page descriptors")
        if len(self._descriptors):
            raise self._damaged(
                f"{len(self._descriptors):,} bytes of page descriptors are of no page by its bitmap"
            )
        if self.data_expected:
            raise self._damaged("it ends within the data of its pages")
        if self._shared_page is None:
            self._shared_page = b""
        self._put_shared()
        while len(self._waiting):
            self.trailing(self._waiting.take(1 << 16))
        if self.missing:
            self._assembly.unusual(
                f"{self.missing:,} of {self.pages:,} pages are missing: the dump was cut off"
                " when it was made"
            )

    def trailing(self, data: bytes) -> None:
        """Bytes behind the last page's data."""
        self._literal(data)
