"""LiME dumps, version 1, which AVML writes too unless it compresses.

A dump is a row of ranges of physical addresses in any order: a header of 32 bytes (magic number,
version, first and *last* address, 8 bytes of zeros), then the range's bytes. Ranges begin and end
where the machine's memory map says so, which need not be at a page: nearly every PC has one from
0x1000 to 0x9FBFF, and all pages behind it lie at an odd residue of the file. LiME writes a header
for each range of the memory map; AVML one for each 16 MiB of them at most, and none for those that
hold zeros only. Nothing marks the end.

The numbers are in the byte order of the machine that was dumped.
"""

import struct

from difffs.images.assembly import Assembly
from difffs.images.format import Format, NotThisFormat
from difffs.images.ranges import Ranges
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE

MAGIC = 0x4C694D45
VERSION = 1

_MOST_RANGES = 1 << 12
"""Machines have some ten. Each takes a page of a store's index, however short it is."""
HEADER = "IIQQ8s"
"""Magic number, version, first address, last address, reserved."""
HEADER_BYTES = 32


def byte_order(prefix: memoryview | bytes) -> str | None:
    """``<`` or ``>`` by the magic number that these bytes begin with, None without one."""
    return {b"EMiL": "<", b"LiME": ">"}.get(bytes(prefix[:4]))


def _matches(prefix: memoryview) -> bool:
    return byte_order(prefix) is not None


def read(source: Source, assembly: Assembly) -> None:
    """Reads a dump from the source's position up to its end."""
    header = source.peek(HEADER_BYTES)
    order = byte_order(header)
    if order is None:
        raise NotThisFormat("no header of a LiME dump")
    if len(header) >= 8 and (version := struct.unpack_from(order + "I", header, 4)[0]) != VERSION:
        raise NotThisFormat(f"a LiME dump of version {version}, of which nothing is known")
    assembly.details(format="lime", version=VERSION, byte_order="little" if order == "<" else "big")
    assembly.blocks([("memory", 0)], 0)
    told = Ranges()
    ranges = length = 0
    while not source.at_end:
        if source.peek(1)[0] == 0:
            _padding(source, assembly)
            break
        start, end = _range(source, order, told)
        assembly.literal(source.take(HEADER_BYTES, "the header of a range"))
        told.add(start, end)
        ranges += 1
        length = _memory(source, assembly, start, end, length)
    assembly.details(ranges=ranges)


def _range(source: Source, order: str, told: Ranges) -> tuple[int, int]:
    """Start and end of the range whose header comes next."""
    header = source.peek(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        raise source.damaged("it ends within the header of a range")
    magic, version, start, last, _reserved = struct.unpack(order + HEADER, header)
    if magic != MAGIC or version != VERSION:
        raise source.damaged("there should be the header of a range, or the dump's end")
    end = last + 1
    if start > last or end > MAXIMUM_VOLUME_SIZE:
        raise source.damaged(f"a range of memory from {start:#x} to {last:#x} cannot be")
    if told.parts(start, end) != [(start, end, True)]:
        raise source.damaged(f"a range from {start:#x} to {last:#x} overlaps with one before")
    if len(told) >= _MOST_RANGES:
        raise source.damaged(f"it has more than {_MOST_RANGES:,} ranges that do not meet")
    return start, end


def _memory(source: Source, assembly: Assembly, start: int, end: int, length: int) -> int:
    """Covers a range's bytes: all of them, or as many as there are before the dump's end. Takes
    and returns the length of the memory so far: it grows with what is there, not with what a
    header says that was cut off, or lies."""
    offset = start
    while offset < end:
        piece = source.window()[: end - offset]
        if not piece:
            # Nothing marks a dump's end, and those of machines that went away are worth keeping.
            assembly.unusual(
                f"the dump was cut off: the last {end - offset:,} of {end - start:,} bytes of the"
                f" range from {start:#x} are missing"
            )
            break
        if offset + len(piece) > length:
            length = offset + len(piece)
            assembly.grow(0, length)
        assembly.memory(0, offset, piece)
        offset += len(piece)
        source.skip(len(piece))
    return length


def _padding(source: Source, assembly: Assembly) -> None:
    """Covers zeros up to the end: a dump that went to a device was copied with what follows it."""
    while not source.at_end:
        piece = source.window()
        if rest := bytes(piece).lstrip(b"\0"):
            raise source.damaged(
                "there should be the header of a range, or the dump's end",
                source.position + len(piece) - len(rest),
            )
        assembly.zeros(len(piece))
        source.skip(len(piece))


FORMAT = Format("lime", "LiME or AVML dump", _matches, read)
