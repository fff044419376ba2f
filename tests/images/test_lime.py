"""LiME dumps, and those of AVML that are the same."""

import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import lime
from difffs.images.format import NotThisFormat
from tests.images.lime_builder import lime_dump
from tests.images.sparse_assembly import assembled, survives

HEADER = 32


@st.composite
def memories(draw: Any) -> list[tuple[int, bytes]]:
    """Ranges as memory maps have them, in any order."""
    address = 0
    ranges = []
    for _ in range(draw(st.integers(1, 5))):
        address += draw(st.sampled_from([0, 1, 0x1000, 0x60400, 1 << 40]))
        length = draw(st.integers(1, 9_000))
        content = draw(st.sampled_from([bytes(length), None]))
        ranges.append((address, content or random.Random(length).randbytes(length)))
        address += length
    in_file: list[tuple[int, bytes]] = draw(st.permutations(ranges))
    return in_file


@given(memories(), st.sampled_from("<>"), st.sampled_from([97, 4096, 1 << 20]), st.integers(0, 99))
@settings(deadline=None)
def test_round_trip(ranges: list[tuple[int, bytes]], order: str, chunk: int, padding: int) -> None:
    dump = lime_dump(ranges, order) + bytes(padding)
    assembly = assembled(lime.FORMAT, dump, chunk=chunk)
    assert assembly.file == dump
    assert assembly.notes == []
    assert assembly.lengths == [max(start + len(data) for start, data in ranges)]
    for start, data in ranges:
        assert assembly.content(start, len(data)) == data
    assert assembly.literal_bytes == HEADER * len(ranges)


def test_a_byte_at_a_time() -> None:
    dump = lime_dump([(0x1000, b"m" * 300), (7, b"n" * 9)]) + bytes(9)
    assembly = assembled(lime.FORMAT, dump, chunk=1)
    assert assembly.file == dump
    assert assembly.content(0, 0x112C) == bytes(7) + b"n" * 9 + bytes(0xFF0) + b"m" * 300


def test_facts() -> None:
    assert assembled(lime.FORMAT, lime_dump([(0, b"a"), (9, b"b")], ">")).facts == {
        "format": "lime",
        "version": 1,
        "byte_order": "big",
        "ranges": 2,
    }


def test_cut_off_anywhere() -> None:
    """Within a range's bytes that is no damage: nothing marks a dump's end."""
    ranges = [(0x1000, b"m" * 300), (0x9000, b"n" * 200)]
    dump = lime_dump(ranges)
    second = HEADER + 300
    for length in range(4, len(dump)):
        if length < HEADER or second < length < second + HEADER:
            with pytest.raises(ImageDamaged):
                assembled(lime.FORMAT, dump[:length])
            continue
        assembly = assembled(lime.FORMAT, dump[:length])
        assert assembly.file == dump[:length]
        assert assembly.content(0x1000, 300).rstrip(b"\0") == b"m" * min(length - HEADER, 300)
        assert len(assembly.notes) == (length != second)
    assert assembly.notes == [
        "the dump was cut off: the last 1 of 200 bytes of the range from 0x9000 are missing"
    ]


def header(magic: int = 0x4C694D45, version: int = 1, start: int = 0, last: int = 0) -> bytes:
    """A header, whatever it says."""
    return struct.pack("<IIQQQ", magic, version, start, last, 0)


@pytest.mark.parametrize(
    ("behind", "text"),
    [
        (header(magic=0x4C694D46), "should be the header"),
        (header(version=2), "should be the header"),
        (header(start=0x9000, last=0x8000), "cannot be"),
        (header(start=0x9000, last=1 << 60), "cannot be"),
        (header(start=0x9000, last=(1 << 64) - 1), "cannot be"),
        (header(start=0x112B, last=0x2000), "overlaps"),
        (header(start=0, last=0x1000), "overlaps"),
        (bytes(100) + b"x", "should be the header"),
    ],
)
def test_what_is_no_range(behind: bytes, text: str) -> None:
    dump = lime_dump([(0x1000, b"m" * 300)]) + behind
    with pytest.raises(ImageDamaged, match=text) as caught:
        assembled(lime.FORMAT, dump)
    at = HEADER + 300 + (100 if behind.startswith(bytes(99)) else 0)
    assert f"at {at:,}:" in str(caught.value)


def test_another_version() -> None:
    dump = header(version=3) + b"m"
    assert lime.FORMAT.matches(memoryview(dump))
    with pytest.raises(NotThisFormat):
        assembled(lime.FORMAT, dump)
    assert not lime.FORMAT.matches(memoryview(b"AVML"))
    assert not lime.FORMAT.matches(memoryview(b""))


def test_scattered_ranges_are_bounded() -> None:
    dump = lime_dump([(at * 2, b"m") for at in range(5_000)])
    with pytest.raises(ImageDamaged, match="more than 4,096 ranges"):
        assembled(lime.FORMAT, dump)


@given(memories(), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1))
@settings(deadline=None)
def test_flipped_bytes(ranges: list[tuple[int, bytes]], flips: list[tuple[int, int]]) -> None:
    dump = bytearray(lime_dump(ranges))
    for place, value in flips:
        dump[place % (len(dump) if place % 4 == 0 else 32)] = value
    survives(lime.FORMAT, bytes(dump))
