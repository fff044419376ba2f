"""Cores of Xen's ``xl dump-core`` (and ``virsh dump`` of Xen's domains).

ELF without program headers: sections hold what there is. ``.note.Xen`` says how many pages of
which size, ``.xen_pages`` has the pages, one after the other, and *behind* them ``.xen_pfn`` (8
bytes a page: its frame) or, of paravirtualized guests, ``.xen_p2m`` (16 bytes a page: the guest's
frame and the machine's) say which pages they were. So the addresses are read ahead, where the
image is a file; from a pipe they are not known in time.

The sections' names are at the very end. What they are is told by what they must be: the notes'
number of entries of the notes' page size, and as many of 8 or 16 bytes right behind. A page that
went away while a running guest was dumped is zeros with frame 2^64-1.

From Xen's docs/misc/dump-core-format.txt, format version 0.1, and tools/libs/ctrl/xc_core.c; no
dump by Xen itself was at hand.
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from difffs.images.assembly import Assembly
from difffs.images.elf import MACHINES, Header, header_of
from difffs.images.format import Format, NotThisFormat
from difffs.images.ranges import MOST_RANGES, Ranges
from difffs.images.source import LOOKAHEAD, Source
from difffs.page import MAXIMUM_VOLUME_SIZE

MAGIC = {0xF00FEBED: "paravirtualized", 0xF00FEBEE: "fully virtualized"}
"""xch_magic: what kind of a guest it was."""
NOTE_HEADER = 0x2000001
"""Type of the note that has xch_magic, and the numbers of processors, pages, bytes of a page."""
SHT_NOTE = 7
MOST_SECTIONS = 1000
NO_FRAME = (1 << 64) - 1
BATCH_PAGES = 8192
"""Pages whose addresses are read at once."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the pages and their addresses are in the file."""

    offset: int
    count: int
    size: int
    """Bytes of a page."""
    frames_offset: int
    frame_bytes: int
    """8 or 16 bytes a page."""
    order: str

    @property
    def end(self) -> int:
        """Where the pages end."""
        return self.offset + self.count * self.size


def _matches(prefix: memoryview) -> bool:
    header = header_of(prefix)
    return header is not None and header.bits == 64 and header.phnum == 0 and header.shnum > 0


def _read(source: Source, assembly: Assembly) -> None:
    window = source.peek(LOOKAHEAD)
    header = header_of(window)
    if header is None or not _matches(window):
        raise NotThisFormat("no core of Xen")
    pages = _pages(source, header, window, assembly)
    assembly.details(
        format="xen",
        byte_order="little" if header.order == "<" else "big",
        architecture=MACHINES.get(header.machine, f"machine {header.machine}"),
        pages=pages.count,
        page_bytes=pages.size,
    )
    for piece in source.pieces(pages.offset, "what is before the pages"):
        assembly.literal(piece)
    if source.read_at is None:
        assembly.blocks([("pages", pages.count * pages.size)], 0)
        assembly.unusual(
            "the memory's pages are in the file's order: their addresses come behind them, out of"
            " reach in a pipe; import the file itself"
        )
        offset = 0
        for piece in source.pieces(pages.end - pages.offset, "the pages"):
            assembly.memory(0, offset, piece)
            offset += len(piece)
    else:
        assembly.blocks([("memory", 0)], 0)
        _cover(source, assembly, pages)
    for piece in source.pieces(pages.count * pages.frame_bytes, "the pages' frame numbers"):
        assembly.literal(piece)
    for piece in source.rest():
        assembly.literal(piece)


def _pages(source: Source, header: Header, window: memoryview, assembly: Assembly) -> Pages:
    """Finds the pages by the section headers and the notes."""
    order = header.order
    table_end = header.shoff + header.shnum * 64
    if header.shentsize != 64 or header.shnum > MOST_SECTIONS or table_end > LOOKAHEAD:
        raise source.damaged(
            f"its {header.shnum:,} section headers of {header.shentsize} bytes begin at"
            f" {header.shoff:,}",
            0,
        )
    if table_end > len(window):
        raise source.damaged("it ends within the section headers", len(window))
    sections = [
        struct.unpack_from(order + "IIQQQQIIQQ", window, header.shoff + index * 64)
        for index in range(header.shnum)
    ]
    note = None
    for _name, kind, _flags, _address, offset, size, *_rest in sections:
        if kind == SHT_NOTE and note is None and offset < len(window):
            note = _note(order, bytes(window[offset : offset + min(size, 64 << 10)]))
    if note is None or note[0] not in MAGIC:
        raise NotThisFormat("an ELF core without segments that is none of Xen's")
    magic, processors, count, page_bytes = note
    assembly.details(guest=MAGIC[magic], processors=processors)
    if page_bytes & (page_bytes - 1) or not 4096 <= page_bytes <= 1 << 20:
        raise source.damaged(f"it says that its pages have {page_bytes:,} bytes", 0)
    if not 0 < count <= MAXIMUM_VOLUME_SIZE // page_bytes:
        raise source.damaged(f"it says that it has {count:,} pages", 0)
    found = [
        (offset, entry)
        for _name, _kind, _flags, _address, offset, size, _link, _info, _align, entry in sections
        if entry and size == count * entry
    ]
    for offset, entry in found:
        frames = offset + count * page_bytes
        for frame_bytes in (8, 16):
            if entry == page_bytes and (frames, frame_bytes) in found and offset >= table_end:
                return Pages(offset, count, page_bytes, frames, frame_bytes, order)
    raise source.damaged(f"no section has its {count:,} pages", header.shoff)


def _note(order: str, notes: bytes) -> tuple[int, int, int, int] | None:
    """What the header note says, None when it is not among these notes."""
    place = 0
    while place + 12 <= len(notes):
        name_bytes, described, kind = struct.unpack_from(order + "III", notes, place)
        place += 12 + -(-name_bytes // 4) * 4
        if kind == NOTE_HEADER and described >= 32 and place + 32 <= len(notes):
            values: tuple[int, int, int, int] = struct.unpack_from(order + "QQQQ", notes, place)
            return values
        place += -(-described // 4) * 4
    return None


def _cover(source: Source, assembly: Assembly, pages: Pages) -> None:
    """Covers the pages, each at its address."""
    told = Ranges()
    length = twice = 0
    for first, frames in _runs(source, pages):
        offset, end = first * pages.size, (first + frames) * pages.size
        if first == NO_FRAME:
            for piece in source.pieces(frames * pages.size, "the pages"):
                assembly.literal(piece)
            continue
        if end > MAXIMUM_VOLUME_SIZE:
            raise source.damaged(f"a page of it would be at {offset:#x}")
        for low, high, new in told.parts(offset, end):
            if new and high > length:
                length = high
                assembly.grow(0, length)
            for piece in source.pieces(high - low, "the pages"):
                if new:
                    assembly.memory(0, low, piece)
                    low += len(piece)
                else:
                    assembly.literal(piece)
                    twice += len(piece)
        told.add(offset, end)
        if len(told) > MOST_RANGES:
            raise source.damaged(f"its pages are in more than {MOST_RANGES:,} places")
    if twice:
        assembly.unusual(
            f"{twice // pages.size:,} pages come twice: the first is taken for the memory, the"
            " second kept as it is"
        )


def _runs(source: Source, pages: Pages) -> Iterator[tuple[int, int]]:
    """The pages' frames as (first, number of consecutive ones); NO_FRAME for pages without."""
    read_at = source.read_at
    assert read_at is not None
    step = pages.frame_bytes // 8
    for place in range(0, pages.count, BATCH_PAGES):
        count = min(BATCH_PAGES, pages.count - place)
        offset = pages.frames_offset + place * pages.frame_bytes
        entries = read_at(offset, count * pages.frame_bytes)
        if len(entries) < count * pages.frame_bytes:
            raise source.damaged("it ends within the pages' frame numbers", offset + len(entries))
        column = array("Q")
        column.frombytes(entries)
        if (pages.order == "<") != (sys.byteorder == "little"):
            column.byteswap()
        frames = column[::step]
        if frames[-1] - frames[0] == count - 1 and frames == array(
            "Q", range(frames[0], frames[0] + count)
        ):
            yield frames[0], count
            continue
        first = frames[0]
        number = 0
        for frame in frames:
            if number and frame != first + number and not frame == first == NO_FRAME:
                yield first, number
                first, number = frame, 0
            number += 1
        yield first, number


FORMAT = Format("xen", "Xen dump-core", _matches, _read)
