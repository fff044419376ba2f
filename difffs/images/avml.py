"""AVML dumps, version 2: compressed.

A row of blocks of at most 16 MiB of physical memory: a header as LiME's but for the magic number
and the version; the memory as one stream of snappy's framing format (an identifier, then frames of
64 KiB of memory each with a checksum); 8 bytes, little endian, with the number of bytes that the
stream has. A stream ends where the header's addresses say that it is complete.

So this is a compression around a LiME dump with the same ranges, and is read as one: what is stored
is the uncompressed dump (as ``avml-convert`` makes it, but that blocks of zeros, which are left out
of both, stay left out). packed_form() makes the compressed file again, the same to the last byte:
AVML compresses with the Rust crate snap, and so does cramjam.
"""

import struct
from collections.abc import Iterator
from types import ModuleType

from difffs.errors import EnvironmentProblem
from difffs.images import lime
from difffs.images.assembly import Assembly
from difffs.images.format import Format, NotThisFormat
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE

MAGIC = b"AVML"
VERSION = 2
COMPRESSION = "avml"
"""As Assembly.packed() names it."""

HEADER = struct.Struct("<4sIQQ8s")
"""Magic number, version, first address, last address, zeros."""
LENGTH = struct.Struct("<Q")

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
COMPRESSED_FRAME = 0
PLAIN_FRAME = 1
CHECKSUM_BYTES = 4
FRAME_MEMORY = 64 << 10
"""Memory in a frame; in a stream's last one there may be less."""
LONGEST_FRAME = CHECKSUM_BYTES + 32 + FRAME_MEMORY + FRAME_MEMORY // 6
"""What snappy makes of 64 KiB in the worst case, and the checksum."""
BATCH_FRAMES = 8
"""Frames that are compressed or decompressed by one call; together they can be looked ahead at."""


def _matches(prefix: memoryview) -> bool:
    return bytes(prefix[:4]) == MAGIC


def _read(source: Source, assembly: Assembly) -> None:
    header = source.peek(HEADER.size)
    if not _matches(header):
        raise NotThisFormat("no header of an AVML dump")
    if len(header) >= 8 and (version := struct.unpack_from("<I", header, 4)[0]) != VERSION:
        raise NotThisFormat(f"an AVML dump of version {version}, of which nothing is known")
    if len(header) < HEADER.size:
        raise source.damaged("it ends within the header of a block")
    inner = source.unpack(b"", _unpacked(source, _library()))
    assembly.packed(COMPRESSION, 0, [])
    lime.read(inner, assembly)
    assembly.details(format="avml", version=VERSION, creator="AVML")


def _library() -> ModuleType:
    """cramjam, which is there when difffs was installed with its formats."""
    try:
        import cramjam
    except ImportError:
        raise EnvironmentProblem(
            "compressed AVML dumps need the Python package cramjam: pip install 'difffs[formats]'"
            " (or: pip install cramjam)"
        ) from None
    return cramjam


def _unpacked(source: Source, library: ModuleType) -> Iterator[bytes]:
    """The LiME dump with the same ranges."""
    while not source.at_end:
        header = source.peek(HEADER.size)
        if header[0] == 0:
            # What follows it on a device: LiME dumps have the same.
            for piece in source.rest():
                yield bytes(piece)
            return
        if len(header) < HEADER.size:
            raise source.damaged("it ends within the header of a block")
        magic, version, start, last, reserved = HEADER.unpack(header)
        if magic != MAGIC or version != VERSION:
            raise source.damaged("there should be the header of a block, or the dump's end")
        if start > last or last >= MAXIMUM_VOLUME_SIZE:
            raise source.damaged(f"a block of memory from {start:#x} to {last:#x} cannot be")
        source.skip(HEADER.size)
        yield struct.pack("<" + lime.HEADER, lime.MAGIC, lime.VERSION, start, last, reserved)
        yield from _memory(source, library, last + 1 - start)


def _memory(source: Source, library: ModuleType, size: int) -> Iterator[bytes]:
    """The memory of a block, whose header has been taken; takes all of the block."""
    begin = source.position
    if source.take(len(IDENTIFIER), "the head of a snappy stream") != IDENTIFIER:
        raise source.damaged("there should be the head of a snappy stream", begin)
    left = size
    while left:
        length, given = _frames(source, left)
        frames = source.peek(length)
        try:
            memory = bytes(library.snappy.decompress(IDENTIFIER + frames))
        except library.DecompressionError as problem:
            raise source.damaged(f"snappy frames that cannot be decompressed ({problem})") from None
        if len(memory) != given:
            raise source.damaged("snappy frames that hold another number of bytes than they say")
        source.skip(length)
        yield memory
        left -= given
    told = LENGTH.unpack(source.take(LENGTH.size, "the length of a snappy stream"))[0]
    have = source.position - LENGTH.size - begin
    if told != have:
        raise source.damaged(
            f"a snappy stream of {have:,} bytes is said to have {told:,}",
            source.position - LENGTH.size,
        )


def _frames(source: Source, left: int) -> tuple[int, int]:
    """How many bytes the next few frames have, and how many bytes of memory they hold: `left` at
    most, and more than none."""
    length = given = 0
    for _ in range(BATCH_FRAMES):
        window = source.peek(length + 4 + LONGEST_FRAME)
        if len(window) < length + 4:
            raise source.damaged("it ends within a snappy stream", source.position + len(window))
        kind = window[length]
        payload = int.from_bytes(window[length + 1 : length + 4], "little")
        if kind not in (COMPRESSED_FRAME, PLAIN_FRAME) or not (
            CHECKSUM_BYTES < payload <= LONGEST_FRAME
        ):
            raise source.damaged(
                f"a snappy frame of type {kind} and {payload:,} bytes cannot be",
                source.position + length,
            )
        if len(window) < length + 4 + payload:
            raise source.damaged("it ends within a snappy frame", source.position + len(window))
        if kind == PLAIN_FRAME:
            memory = payload - CHECKSUM_BYTES
        else:
            memory = _plain_length(window[length + 4 + CHECKSUM_BYTES : length + 4 + payload])
        if not 0 < memory <= min(FRAME_MEMORY, left - given):
            raise source.damaged(
                f"a snappy frame of {memory:,} bytes of memory, where {left - given:,} are left",
                source.position + length,
            )
        length += 4 + payload
        given += memory
        if given == left:
            break
    return length, given


def _plain_length(block: memoryview) -> int:
    """The length that a compressed block begins with (a varint), 0 when it has none that fits."""
    value = 0
    for index, byte in enumerate(block[:3]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value
    return 0


def packed_form(pieces: Iterator[memoryview] | Iterator[bytes]) -> Iterator[bytes]:
    """The compressed dump whose unpacked form these bytes are.

    The same to the last byte as AVML's file, if its snap compressed as today's does: compare.
    ``EnvironmentProblem`` without cramjam, ``ImageDamaged`` when this is no LiME dump.
    """
    library = _library()
    source = Source(pieces)
    while not source.at_end:
        header = source.peek(lime.HEADER_BYTES)
        if header[0] == 0:
            for piece in source.rest():
                yield bytes(piece)
            return
        if len(header) < lime.HEADER_BYTES or lime.byte_order(header) != "<":
            raise source.damaged("there should be the header of a range, or the dump's end")
        _magic, _version, start, last, reserved = struct.unpack("<" + lime.HEADER, header)
        source.skip(lime.HEADER_BYTES)
        yield HEADER.pack(MAGIC, VERSION, start, last, reserved)
        yield IDENTIFIER
        length = len(IDENTIFIER)
        left = last + 1 - start
        while left > 0:
            memory = source.take(min(left, BATCH_FRAMES * FRAME_MEMORY), "a range's memory")
            frames = bytes(library.snappy.compress(bytes(memory)))[len(IDENTIFIER) :]
            yield frames
            length += len(frames)
            left -= len(memory)
        yield LENGTH.pack(length)


FORMAT = Format("avml", "compressed AVML dump", _matches, _read)
