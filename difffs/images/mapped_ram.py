"""QEMU's mapped-ram: a migration to a file in which each page of memory has its own place.

Instead of records of pages, the list of blocks in the stream (:mod:`difffs.images.migration`) has
behind each block's name and length a header: version 1 (4 bytes), size of a page (8), offset of the
bitmap (8), offset of the pages (8), big endian; offsets are of the file. The bitmap follows, a bit
for each page that was written; at the next multiple of 1 MiB the pages begin, as many bytes as the
block has, and behind them the list goes on. So a page that was sent again lies where it lay; one
whose bit is not set is zeros, whatever the file has in its place: a hole, or what the page held
before. Written through several channels (multifd) the file looks the same. QEMU 9.0 and later;
``virsh save`` as ``sparse`` (libvirt 11.2) is the same behind libvirt's header.

The bitmap is an array of the host's ``unsigned long``: bytes in ascending order, as far as any host
is little endian, and in groups of eight the other way round else, which nothing in the file says.
"""

import re
import struct
from array import array
from dataclasses import dataclass

from difffs.images.assembly import PAGE_SIZE, Assembly
from difffs.images.ram_blocks import RamBlocks
from difffs.images.source import LOOKAHEAD, Source

_HEADER = struct.Struct(">IQQQ")
HEADER_BYTES = _HEADER.size
_VERSION = 1
_PAGE_SIZES = frozenset(1 << bits for bits in range(10, 17))
_WORD = 8
# Bytes that are looked at at once: a clear bit costs a comparison of what the file has.
_STEP = 256 << 10
_ZEROS = bytes(LOOKAHEAD)
_LONGEST = 1 << 40
"""Bytes of a block: its bitmap, at most 32 MiB for pages of 4 KiB, is kept in memory."""
_RUNS = re.compile("0+|1+")


@dataclass(frozen=True, slots=True)
class MappedRamHeader:
    """Where a block's bitmap and pages lie."""

    page_size: int
    bitmap_offset: int
    pages_offset: int


def header_at(view: memoryview, at: int) -> MappedRamHeader | None:
    """The header that lies there, None when it is none."""
    if len(view) < at + _HEADER.size:
        return None
    version, page_size, bitmap_offset, pages_offset = _HEADER.unpack_from(view, at)
    if version != _VERSION or page_size not in _PAGE_SIZES:
        return None
    return MappedRamHeader(page_size, bitmap_offset, pages_offset)


def read_mapped_block(
    source: Source, assembly: Assembly, blocks: RamBlocks, block: int, header: MappedRamHeader
) -> None:
    """Covers a block's bitmap and pages, from the end of its header to the end of its pages."""
    if header.bitmap_offset == header.pages_offset == 0:
        return  # shared memory that was left out (x-ignore-shared)
    length = blocks.length(block)
    name = blocks.name(block)
    if length > _LONGEST:
        raise source.damaged(f"the block {name} has {length:,} bytes, more than can be mapped here")
    pages = -(-length // header.page_size)
    least = -(-pages // 8)
    if header.bitmap_offset < source.position:
        raise source.damaged(f"the bitmap of {name} lies before its header")
    if header.pages_offset < header.bitmap_offset + least:
        raise source.damaged(f"the pages of {name} lie before the end of their bitmap")
    _pass_padding(source, assembly, header.bitmap_offset, f"what precedes the bitmap of {name}")
    # All words of the bitmap, where there is room for them: only whole ones can be turned round.
    whole = -(-least // _WORD) * _WORD
    bitmap = bytearray()
    for piece in source.pieces(
        whole if header.bitmap_offset + whole <= header.pages_offset else least,
        f"the bitmap of {name}",
    ):
        assembly.literal(piece)
        bitmap += piece
    _pass_padding(source, assembly, header.pages_offset, f"what precedes the pages of {name}")
    sample = source.peek(min(LOOKAHEAD, length))
    _read_pages(
        source,
        assembly,
        block,
        length,
        header.page_size,
        _in_order(bitmap, sample, header.page_size),
    )
    blocks.give(block, length)


def _pass_padding(source: Source, assembly: Assembly, end: int, what: str) -> None:
    for piece in source.pieces(end - source.position, what):
        for start in range(0, len(piece), LOOKAHEAD):
            part = piece[start : start + LOOKAHEAD]
            if _is_zero(part):
                assembly.zeros(len(part))
            else:
                assembly.literal(part)


def _in_order(bitmap: bytearray, sample: memoryview, page_size: int) -> bytes | bytearray:
    """The bitmap with its bytes in ascending order. Nothing says what they are in, but the first
    pages show it: those written are not zeros, and those not written are, all but a few."""
    if len(bitmap) % _WORD:
        return bitmap
    written = "".join(
        "0" if _is_zero(sample[start : start + page_size]) else "1"
        for start in range(0, len(sample) - page_size + 1, page_size)
    )
    first = bytes(bitmap[: -(-len(written) // (8 * _WORD)) * _WORD])

    def misses(candidate: bytes) -> int:
        said = _bits(candidate, 0, len(written))
        return sum(a != b for a, b in zip(said, written, strict=True))

    return _turned(bitmap) if misses(_turned(first)) < misses(first) else bitmap


def _turned(bitmap: bytes | bytearray) -> bytes:
    words = array("Q", bytes(bitmap))
    words.byteswap()
    return words.tobytes()


def _read_pages(
    source: Source,
    assembly: Assembly,
    block: int,
    length: int,
    page_size: int,
    bitmap: bytes | bytearray,
) -> None:
    offset = 0
    while offset < length:
        left = length - offset
        view = source.window(min(_STEP, left))[:left]
        if len(view) < left:
            view = view[: len(view) // page_size * page_size]
        if not view:
            raise source.damaged(f"it ends within the pages of a block: {left:,} bytes are missing")
        view = view[:LOOKAHEAD]
        pages = -(-len(view) // page_size)
        for run in _RUNS.finditer(_bits(bitmap, offset // page_size, pages)):
            start = run.start() * page_size
            part = view[start : run.end() * page_size]
            if run[0][0] == "1":
                assembly.memory(block, offset + start, part)
                continue
            if page_size % PAGE_SIZE == 0:
                assembly.zero_memory(block, offset + start, len(part))
            _cover_unwritten(assembly, part)
        source.skip(len(view))
        offset += len(view)


def _cover_unwritten(assembly: Assembly, part: memoryview) -> None:
    """What the file has in the place of pages that are zeros: a hole, or what they once held."""
    if _is_zero(part):
        assembly.zeros(len(part))
        return
    for start in range(0, len(part), PAGE_SIZE):
        page = part[start : start + PAGE_SIZE]
        if _is_zero(page):
            assembly.zeros(len(page))
        else:
            assembly.literal(page)


def _bits(bitmap: bytes | bytearray, first: int, count: int) -> str:
    """A character 0 or 1 for each of `count` bits."""
    part = bitmap[first // 8 : (first + count + 7) // 8]
    value = int.from_bytes(part, "little") >> first % 8
    # The bit behind the last one keeps leading zeros, and is cut off.
    return format(value & ((1 << count) - 1) | 1 << count, "b")[:0:-1]


def _is_zero(view: memoryview) -> bool:
    """Whether `view` (LOOKAHEAD bytes at most) is zeros. As bytes: views compare item by item."""
    return bytes(view) == _ZEROS[: len(view)]
