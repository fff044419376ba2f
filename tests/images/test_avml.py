"""Compressed AVML dumps."""

import random
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import EnvironmentProblem, ImageDamaged
from difffs.images import avml
from difffs.images.format import NotThisFormat
from tests.images.lime_builder import lime_dump
from tests.images.sparse_assembly import assembled, chunks, survives

pytest.importorskip("cramjam", reason="cramjam is not installed: pip install 'difffs[formats]'")

from tests.images.avml_builder import avml_dump

HEADER = 32


def packed(data: bytes, chunk: int = 1 << 20) -> bytes:
    """The compressed form of an unpacked dump."""
    return b"".join(avml.packed_form(chunks(data, chunk)))


MEMORIES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 0x1000, 1 << 30]),
        st.sampled_from([1, 300, 65_535, 65_536, 65_537, 200_000, 1_200_000]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def ranges_of(memory: list[tuple[int, int, bool]]) -> list[tuple[int, bytes]]:
    """(address, bytes) of what is drawn as (distance, length, whether it compresses)."""
    address = 0
    ranges = []
    for distance, length, compresses in memory:
        address += distance
        words = random.Random(length)
        data = b"%d" % length * length if compresses else words.randbytes(length)
        ranges.append((address, data[:length]))
        address += length
    return ranges


@given(MEMORIES, st.sampled_from([997, 65_536, 1 << 20]), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_round_trip(memory: list[tuple[int, int, bool]], chunk: int, padding: int) -> None:
    ranges = ranges_of(memory)
    dump = avml_dump(ranges) + bytes(padding)
    assembly = assembled(avml.FORMAT, dump, chunk=chunk)
    assert assembly.file == lime_dump(ranges) + bytes(padding)
    assert assembly.packed_as == ("avml", 0, [], b"")
    assert packed(assembly.file, chunk) == dump
    assert assembly.notes == []
    for start, data in ranges:
        assert assembly.content(start, len(data)) == data


def test_a_byte_at_a_time() -> None:
    dump = avml_dump([(0x1000, b"m" * 300), (7, b"n" * 9)])
    assembly = assembled(avml.FORMAT, dump, chunk=1)
    assert packed(assembly.file, 1) == dump


def test_facts() -> None:
    assert assembled(avml.FORMAT, avml_dump([(0, b"a"), (9, b"b")])).facts == {
        "format": "avml",
        "version": 2,
        "creator": "AVML",
        "byte_order": "little",
        "ranges": 2,
    }


def checksum(data: bytes) -> bytes:
    """As snappy's framing format says: CRC-32C, turned and shifted."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    register ^= 0xFFFFFFFF
    turned = (register >> 15 | register << 17) + 0xA282EAD8
    return struct.pack("<I", turned & 0xFFFFFFFF)


def test_a_stream_as_snappy_says_it_is() -> None:
    """By the framing format's own text: the builder and the reader use one library."""
    # One frame as it is, one compressed: its length, a literal of 1 byte, a copy of 7 from 1 back.
    plain = b"\x01\x09\x00\x00" + checksum(b"plain") + b"plain"
    block = b"\x08" + b"\x00r" + b"\x0d\x01"
    compressed = b"\x00\x09\x00\x00" + checksum(b"r" * 8) + block
    stream = b"\xff\x06\x00\x00sNaPpY" + plain + compressed
    dump = struct.pack("<4sIQQQ", b"AVML", 2, 0x1000, 0x100C, 0) + stream
    dump += struct.pack("<Q", len(stream))
    assert assembled(avml.FORMAT, dump).content(0x1000, 13) == b"plainrrrrrrrr"


def test_cut_off_anywhere() -> None:
    """The length at its end tells that a block is complete."""
    first = avml_dump([(0x1000, bytes(100))])
    dump = first + avml_dump([(0x9000, random.Random(1).randbytes(150))])
    for length in range(4, len(dump)):
        if length == len(first):
            assert assembled(avml.FORMAT, first).content(0x1000, 100) == bytes(100)
            continue
        with pytest.raises(ImageDamaged):
            assembled(avml.FORMAT, dump[:length])


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (0, b"X", "should be the header of a block"),
        (4, b"\3", "should be the header of a block"),
        (8, b"\xff" * 8, "cannot be"),
        (16, b"\xff" * 8, "cannot be"),
        (HEADER + 4, b"S", "head of a snappy stream"),
        (HEADER + 10, b"\x80", "type 128"),
        (HEADER + 11, b"\xff\xff\xff", "16,777,215 bytes cannot be"),
        (HEADER + 14, b"\0\0\0\0", "cannot be decompressed"),
        (HEADER + 18, b"\xff\xff\x03", "65,535 bytes of memory, where 300 are left"),
        (HEADER + 18, b"\xff\xff\xff", "0 bytes of memory"),
        (-8, b"\0", "is said to have"),
    ],
)
def test_blocks_that_lie(place: int, value: bytes, text: str) -> None:
    first = avml_dump([(0, b"first")])
    dump = bytearray(first + avml_dump([(0x1000, b"m" * 300)]))
    at = place + (len(dump) if place < 0 else len(first))
    dump[at : at + len(value)] = value
    with pytest.raises(ImageDamaged, match=text):
        assembled(avml.FORMAT, bytes(dump))


def test_what_is_no_avml_dump() -> None:
    assert not avml.FORMAT.matches(memoryview(lime_dump([(0, b"m")])))
    dump = b"AVML\3\0\0\0" + bytes(24)
    assert avml.FORMAT.matches(memoryview(dump))
    with pytest.raises(NotThisFormat):
        assembled(avml.FORMAT, dump)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = avml_dump([(0, b"m")])
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(EnvironmentProblem, match="pip install"):
        assembled(avml.FORMAT, dump)


@given(MEMORIES, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1))
@settings(deadline=None, max_examples=50)
def test_flipped_bytes(memory: list[tuple[int, int, bool]], flips: list[tuple[int, int]]) -> None:
    dump = bytearray(avml_dump(ranges_of(memory)))
    for place, value in flips:
        dump[place % (len(dump) if place % 4 == 0 else min(64, len(dump)))] = value
    survives(avml.FORMAT, bytes(dump))
