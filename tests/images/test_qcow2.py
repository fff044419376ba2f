"""Snapshots in qcow2 images, made from the structure of the format."""

import contextlib
import os
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import qcow2
from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from difffs.page import PAGE_SIZE
from tests.images.plain_assembly import PlainAssembly
from tests.images.qcow2_builder import Qcow2, Snapshot, assembled
from tests.images.small_stream import small_stream

PAGES = [os.urandom(PAGE_SIZE), bytes(PAGE_SIZE), b"text" * 1024, os.urandom(PAGE_SIZE)]
MEMORY = b"".join(PAGES * 3)
VIDEO = PAGES[2] * 2


def machine(memory: bytes = MEMORY) -> bytes:
    return small_stream({"pc.ram": memory, "vga.vram": VIDEO})


def read(image: bytes) -> PlainAssembly:
    """What the image is read as; its file is the image."""
    assembly = assembled(qcow2.FORMAT, image)
    assert assembly.file == image
    return assembly


def error_of(image: bytes) -> str:
    """What is wrong with it; nothing may have been covered."""
    source = Source(
        iter([]), size=len(image), read_at=lambda offset, count: image[offset : offset + count]
    )
    assembly = PlainAssembly()
    with pytest.raises((ImageDamaged, NotThisFormat)) as error:
        qcow2.FORMAT.read(source, assembly)
    if isinstance(error.value, NotThisFormat):
        assert assembly.facts == {}
        assert not assembly.file
    return str(error.value)


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize(
    ("bits", "version", "extended"),
    [(9, 3, False), (9, 2, False), (12, 2, False), (16, 3, False), (14, 3, True), (21, 3, False)],
)
def test_a_snapshot(bits: int, version: int, extended: bool, scattered: bool) -> None:
    disk = os.urandom(5000) + bytes(200_000) + b"disk" * 999
    made = Qcow2(bits, version, extended, scattered=scattered, disk=disk)
    assembly = read(made.finish([Snapshot("suspended", machine())]))
    assert assembly.memory_bytes == MEMORY
    assert assembly.facts["snapshot"] == "suspended"
    assert assembly.facts["machine"] == "pc-q35-10.0"
    assert assembly.notes == []


def test_it_is_known_by_its_magic() -> None:
    image = Qcow2().finish([])
    assert qcow2.FORMAT.matches(memoryview(image))
    assert not qcow2.FORMAT.matches(memoryview(image[1:]))
    assert not qcow2.FORMAT.matches(memoryview(b""))
    assert qcow2.FORMAT.anywhere


@pytest.mark.parametrize("extra", [0, 8, 16, 24, 4000])
def test_the_table_may_have_more_fields_or_fewer(extra: int) -> None:
    snapshots = [
        Snapshot("disk only", b"", extra=extra),
        Snapshot("one", machine(), extra=extra),
        Snapshot("more disk", b"", extra=extra),
    ]
    assembly = read(Qcow2().finish(snapshots))
    assert assembly.facts["snapshots"] == ["one"]
    assert assembly.memory_bytes == MEMORY


def test_the_newest_snapshots_memory_counts() -> None:
    older, newest = PAGES[3] + MEMORY[PAGE_SIZE:], MEMORY
    left_out = small_stream({"pc.ram": older, "vga.vram": VIDEO}, left_out=[2])
    for first, second in [(1, 2), (2, 1), (1, 1)]:
        snapshots = [
            Snapshot("a", left_out if first < second else machine(newest), seconds=first),
            Snapshot("b", machine(newest) if first <= second else left_out, seconds=second),
        ]
        assembly = read(Qcow2(scattered=True).finish(snapshots))
        assert assembly.memory_bytes == newest
        assert assembly.notes == []
        assert assembly.literal_bytes < 50_000


def test_what_the_newest_leaves_out_is_no_older_ones() -> None:
    streams = {"pc.ram": MEMORY, "vga.vram": VIDEO}
    newest = small_stream(streams, left_out=[0])
    assembly = read(Qcow2().finish([Snapshot("a", machine()), Snapshot("b", newest, 2)]))
    assert assembly.memory_bytes == bytes(PAGE_SIZE) + MEMORY[PAGE_SIZE:]


@pytest.mark.parametrize(
    "other",
    [
        small_stream({"pc.ram": MEMORY + PAGES[0]}),
        b"no stream at all" * 500,
        machine()[:40],
        b"QEVM\0\0\0\3" + bytes(5000),
    ],
    ids=["more memory", "no stream", "cut off", "no memory"],
)
def test_an_older_snapshot_of_another_machine_is_kept(other: bytes) -> None:
    assembly = read(Qcow2().finish([Snapshot("old", other), Snapshot("new", machine(), 2)]))
    assert assembly.memory_bytes == MEMORY
    assert assembly.names == ["pc.ram", "vga.vram"]
    assert assembly.notes == [
        "snapshot 'old' has other memory than the newest one, and its pages are not shared"
    ]


def test_zeros_behind_older_snapshots_are_not_as_many_as_a_header_says() -> None:
    """Each page of zeros costs a store something: 16 TiB of them took gigabytes."""

    class Counting(PlainAssembly):
        zeros_told = 0

        def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
            super().blocks([(name, 8 * PAGE_SIZE) for name, _length in blocks], memory)

        def zero_memory(self, block: int, offset: int, length: int) -> None:
            self.zeros_told += length
            super().zero_memory(block, offset, min(length, 8 * PAGE_SIZE))

    def lying(memory: bytes) -> bytes:
        stream = small_stream({"ram": memory})
        for flags in (4, 0):
            told = struct.pack(">Q", len(memory) | flags)
            assert stream.count(told) == 1
            stream = stream.replace(told, struct.pack(">Q", 16 << 40 | flags))
        return stream

    memory = MEMORY[: 2 * PAGE_SIZE]
    states = [Snapshot("1", lying(memory)), Snapshot("2", lying(memory[::-1]))]
    image = Qcow2().finish(states)
    source = Source(iter([]), size=len(image), read_at=lambda at, count: image[at : at + count])
    assembly = Counting()
    qcow2.FORMAT.read(source, assembly)
    assert 0 < assembly.zeros_told <= 4 << 20
    assert assembly.file == image
    assert assembly.memory_bytes[: len(memory)] == memory[::-1]


def test_clusters_that_are_not_allocated_are_zeros() -> None:
    state = small_stream({"pc.ram": MEMORY}, devices=bytes(9 * 512))
    image = Qcow2(9, disk=os.urandom(20_000))
    last = len(state) // 512
    empty = {at for at in range(last) if not any(state[at * 512 : at * 512 + 512])}
    assert len(empty) > 5
    assert read(image.finish([Snapshot("one", state, holes=frozenset(empty))])).memory_bytes


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_image_is_read(data: st.DataObject) -> None:
    bits = data.draw(st.integers(9, 17))
    extended = bits >= 14 and data.draw(st.booleans())
    version = 3 if extended else data.draw(st.integers(2, 3))
    made = Qcow2(
        bits,
        version,
        extended,
        disk_size=data.draw(st.integers(0, 1 << 26)),
        seed=data.draw(st.integers(0, 99)),
        scattered=data.draw(st.booleans()),
        disk=data.draw(st.binary(max_size=5000)),
    )
    pages = st.lists(st.sampled_from(PAGES), min_size=1, max_size=9)
    memories = data.draw(st.lists(pages, min_size=1, max_size=3))
    snapshots = [
        Snapshot(f"s{index}", small_stream({"pc.ram": b"".join(memory)}), seconds=index)
        for index, memory in enumerate(memories)
    ]
    assembly = read(made.finish(snapshots))
    assert assembly.memory_bytes == b"".join(memories[-1])


# ---- what is none, and what is damaged ----------------------------------------------------------


def test_what_is_none_says_why() -> None:
    image = Qcow2().finish([Snapshot("one", machine())])
    assert "disk" in error_of(Qcow2().finish([]))
    assert "disk" in error_of(Qcow2().finish([Snapshot("disk only", b"")]))
    assert "encrypted" in error_of(Qcow2().finish([Snapshot("one", machine())], encryption=2))
    assert "another file" in error_of(Qcow2().finish([Snapshot("one", machine())], features=4))
    assert "features" in error_of(Qcow2().finish([Snapshot("one", machine())], features=1 << 40))
    assert "version 1" in error_of(image[:7] + b"\1" + image[8:])
    assert "does not hold" in error_of(Qcow2().finish([Snapshot("one", b"old state" * 99)]))


def test_a_pipe_is_none() -> None:
    image = Qcow2().finish([Snapshot("one", machine())])
    with pytest.raises(NotThisFormat, match="from the file"):
        qcow2.FORMAT.read(Source(iter([image])), PlainAssembly())


def entry_of(image: bytes, at: int) -> int:
    return int.from_bytes(image[at : at + 8], "big")


def with_entry(image: bytes, at: int, entry: int) -> bytes:
    return image[:at] + struct.pack(">Q", entry) + image[at + 8 :]


def test_offsets_that_lie_are_told() -> None:
    image = Qcow2(disk_size=0).finish([Snapshot("one", machine())])
    table_at = entry_of(image, 64)
    l1_at = entry_of(image, table_at)
    l2_at = entry_of(image, l1_at) & (1 << 56) - 1
    end = len(image)
    assert "behind" in error_of(with_entry(image, 64, end))
    assert "behind" in error_of(with_entry(image, 64, (1 << 64) - 8))
    assert "behind" in error_of(with_entry(image, table_at, 1 << 60))
    assert "no cluster's start" in error_of(with_entry(image, l1_at, l2_at + 512))
    assert "behind" in error_of(with_entry(image, l1_at, end))
    assert "no cluster's start" in error_of(with_entry(image, l2_at, l2_at + 512))
    assert "behind" in error_of(with_entry(image, l2_at, end))
    assert "same place" in error_of(with_entry(image, l2_at + 8, entry_of(image, l2_at)))
    assert "compressed" in error_of(with_entry(image, l2_at, 1 << 62 | 77))
    assert "more than" in error_of(with_entry(image, table_at + 40, end + 1))
    assert "shorter" in error_of(image[: table_at + 8] + bytes(4) + image[table_at + 12 :])
    assert "snapshots are not possible" in error_of(image[:60] + b"\xff" * 4 + image[64:])
    assert "2^60" in error_of(image[:20] + struct.pack(">I", 60) + image[24:])


def test_two_snapshots_in_the_same_place_are_told() -> None:
    image = Qcow2(disk_size=0).finish([Snapshot("one", machine()), Snapshot("two", machine())])
    table_at = entry_of(image, 64)
    second = table_at + 40 + 16 + 8
    assert "same place" in error_of(with_entry(image, second, entry_of(image, table_at)))


@pytest.mark.parametrize("extended", [False, True])
def test_truncation_is_told(extended: bool) -> None:
    made = Qcow2(14 if extended else 12, extended=extended)
    image = made.finish([Snapshot("one", machine()), Snapshot("two", machine())])
    end = len(image.rstrip(b"\0"))  # of the table of snapshots, within the last cluster
    for length in range(4, end, 1999):
        error_of(image[:length])
    error_of(image[: end - 1])
    assert read(image[:end]).memory_bytes == MEMORY


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("snapshots", [1, 2])
def test_flipped_bytes_are_told_or_kept(extended: bool, snapshots: int) -> None:
    made = Qcow2(14 if extended else 10, extended=extended)
    image = made.finish([Snapshot(f"s{index}", machine()) for index in range(snapshots)])
    tables = [at for at in range(len(image)) if image[at]]
    chance = random.Random(7)
    for _ in range(600):
        flipped = bytearray(image)
        near = chance.random() < 0.5
        flipped[chance.randrange(110) if near else chance.choice(tables)] = chance.randrange(256)
        with contextlib.suppress(ImageDamaged, NotThisFormat):
            assert assembled(qcow2.FORMAT, bytes(flipped)).file == flipped
