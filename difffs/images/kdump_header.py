"""The headers of kdump files: of which kind a file is, and where its parts lie.

The layout is that of makedumpfile's ``diskdump_mod.h`` and QEMU's ``dump.h``: a main header in the
first block, a sub header in the second, notes, two bitmaps of page frames, 24 bytes for each page
of the second bitmap, and the pages.
"""

import struct
from dataclasses import dataclass

from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE

SIGNATURES = (b"KDUMP   ", b"DISKDUMP")

MAIN_HEADER_BYTES = 452
"""Bytes of the shortest main header: that of 32-bit words. (The other has 464.)"""
SUB_HEADER_BYTES = 104
"""Bytes of the sub header that any word size and version needs."""
NEWEST_VERSION = 6
LARGEST_BLOCK = 1 << 16
"""Bytes: the largest pages of the architectures that have a kdump (AArch64, POWER, IA-64)."""
DESCRIPTOR_BYTES = 24

ZLIB = 0x01
LZO = 0x02
SNAPPY = 0x04
INCOMPLETE = 0x08
ZSTD = 0x20
COMPRESSIONS = {ZLIB: "zlib", LZO: "lzo", SNAPPY: "snappy", ZSTD: "zstd"}
"""Of the main header's status (what the writer was told to use) and of a page's flags."""

_SPLIT_64, _SPLIT_32 = 32, 20
"""Bytes up to the end of what tells of a split dump."""

_UTSNAME_START = 12
_UTSNAME_FIELD = 65
_SUB_HEADER_LIMIT = 64 << 20
"""Bytes of sub header and notes that are believed: 4096 processors need some 2 MiB."""
_BITMAPS_LIMIT = 2 * (MAXIMUM_VOLUME_SIZE // PAGE_SIZE // 8 + LARGEST_BLOCK)


@dataclass(frozen=True, slots=True)
class MainHeader:
    """What the first block tells."""

    kdump: bool
    """Whether the sub header is that of kdump; that of the older diskdump tells nothing here."""
    version: int
    little: bool
    """Whether numbers are little endian."""
    words: int
    """Bits of the writer's long."""
    status: int
    block_size: int
    sub_header_blocks: int
    bitmap_blocks: int
    frames: int
    """Page frames, as far as 32 bits tell (``max_mapnr``)."""
    machine: str
    release: str
    node: str

    @property
    def sub_header_bytes(self) -> int:
        """Bytes of the sub header that tell something here; older versions have few more."""
        if not self.kdump or not self.version:
            return 0
        if self.words == 64:
            if self.version < 2:
                return 12
            return SUB_HEADER_BYTES if self.version >= NEWEST_VERSION else _SPLIT_64
        return 8 if self.version < 2 else _SPLIT_32

    def facts(self) -> dict[str, object]:
        """For ``Assembly.details``."""
        used = [name for flag, name in COMPRESSIONS.items() if self.status & flag]
        facts: dict[str, object] = {
            "version": self.version,
            "compression": used[0] if used else "none",
            "block_size": self.block_size,
            "words": self.words,
            "byte_order": "little" if self.little else "big",
            "incomplete": bool(self.status & INCOMPLETE),
        }
        for name, value in (
            ("architecture", self.machine),
            ("kernel", self.release),
            ("node", self.node),
        ):
            if value and value != "Unknown":  # what QEMU says of any machine
                facts[name] = value
        return facts


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a kdump file lie, in bytes from its start."""

    header: MainHeader
    block_size: int
    frames: int
    """Page frames that the bitmaps speak of."""
    first_frame: int
    last_frame: int
    """The frames that this file has pages of are within [first_frame, last_frame): all, but for one
    part of a dump that makedumpfile split."""
    bitmap: int
    """Start of the bitmap that tells which pages the file has."""
    bitmap_bytes: int
    """Bytes of it that say something."""
    descriptors: int
    """Start of the page descriptors."""
    facts: dict[str, object]
    """For ``Assembly.details``."""


def _text(data: bytes) -> str:
    """A field of the system's name, as far as it can be read."""
    return data.partition(b"\0")[0].decode("ascii", "replace")


def _candidates(head: bytes) -> list[tuple[bool, int, tuple[int, ...]]]:
    """(little endian, bits of a word, status and the five numbers behind it) that make sense.

    The header does not tell its word size or byte order. A long of 32 bits puts the numbers 12
    bytes earlier, where a header of 64-bit words has the upper half of microseconds: zero, as no
    sub header's size is.
    """
    found = []
    for words, start in ((32, 412), (64, 424)):
        for little in (True, False):
            numbers = struct.unpack_from("<5I" if little else ">5I", head, start)
            _status, block_size, sub_header, bitmaps, _frames = numbers
            if (
                0 < block_size <= 1 << 24
                and not block_size & (block_size - 1)
                and 0 < sub_header < 1 << 20
                and bitmaps
            ):
                found.append((little, words, numbers))
    return found


def main_header(head: bytes, source: Source) -> MainHeader:
    """Reads the first MAIN_HEADER_BYTES of a kdump file. ImageDamaged when they make no sense,
    NotThisFormat when they are of a kind that is not read."""
    candidates = _candidates(head)
    if head[:8] not in SIGNATURES or not candidates:
        raise source.damaged("a kdump header whose numbers make no sense")
    little, words, numbers = candidates[0]
    (version,) = struct.unpack_from("<I" if little else ">I", head, 8)
    status, block_size, sub_header, bitmaps, frames = numbers
    if version > NEWEST_VERSION:
        raise NotThisFormat(f"a kdump file of version {version}; known are those up to 6")
    if not PAGE_SIZE <= block_size <= LARGEST_BLOCK:
        raise NotThisFormat(f"a kdump file with blocks of {block_size:,} bytes")
    if sub_header * block_size > _SUB_HEADER_LIMIT:
        raise source.damaged(f"a sub header of {sub_header * block_size:,} bytes")
    if bitmaps * block_size > _BITMAPS_LIMIT:
        raise source.damaged(f"bitmaps of {bitmaps * block_size:,} bytes")
    names = [
        _text(head[start : start + _UTSNAME_FIELD])
        for start in range(_UTSNAME_START, _UTSNAME_START + 6 * _UTSNAME_FIELD, _UTSNAME_FIELD)
    ]
    return MainHeader(
        kdump=head[:8] == SIGNATURES[0],
        version=version,
        little=little,
        words=words,
        status=status,
        block_size=block_size,
        sub_header_blocks=sub_header,
        bitmap_blocks=bitmaps,
        frames=frames,
        machine=names[4],
        release=names[2],
        node=names[1],
    )


def layout(header: MainHeader, sub_header: bytes, source: Source) -> Layout:
    """Where the parts lie, by the main header and the first bytes of the second block.
    ImageDamaged when the two contradict each other."""
    order = "<" if header.little else ">"
    sub_header = sub_header[: header.sub_header_bytes].ljust(SUB_HEADER_BYTES, b"\0")
    frames, first, last = header.frames, 0, 0
    split = level = 0
    if header.kdump and header.words == 64:
        level, split, first, last = struct.unpack_from(f"{order}IIQQ", sub_header, 8)
        if header.version >= NEWEST_VERSION:
            first, last, frames = struct.unpack_from(f"{order}QQQ", sub_header, 80)
    elif header.kdump:
        level, split, first, last = struct.unpack_from(f"{order}IIII", sub_header, 4)
    if header.version < 2:
        split = 0
    if not split:
        first, last = 0, frames
    block_size = header.block_size
    if not frames:
        raise source.damaged("a kdump file of no page frames")
    if frames * block_size > MAXIMUM_VOLUME_SIZE:
        raise source.damaged(f"page frames up to {frames:,}, more than memory can have")
    if first > last or last > frames:
        raise source.damaged(f"a part from frame {first:,} to {last:,} of {frames:,}")
    bitmap_bytes = -(-frames // 8)
    blocks = -(-bitmap_bytes // block_size)
    bitmap = (1 + header.sub_header_blocks) * block_size
    descriptors = bitmap + header.bitmap_blocks * block_size
    if header.bitmap_blocks >= 2 * blocks:
        # The second of two; the first tells which frames are memory at all.
        bitmap += header.bitmap_blocks * block_size // 2
    elif header.bitmap_blocks < blocks:
        raise source.damaged(
            f"bitmaps of {header.bitmap_blocks:,} blocks are too short for {frames:,} page frames"
        )
    facts = header.facts()
    if header.kdump:
        facts["dump_level"] = level
    if split:
        facts["split"] = [first, last]
    return Layout(
        header=header,
        block_size=block_size,
        frames=frames,
        first_frame=first,
        last_frame=last,
        bitmap=bitmap,
        bitmap_bytes=bitmap_bytes,
        descriptors=descriptors,
        facts=facts,
    )
