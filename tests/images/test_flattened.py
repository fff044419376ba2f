"""Makedumpfile's flattened form: what is inside is read as it comes, and the whole is rebuilt."""

import random
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import flattened
from difffs.images.format import NotThisFormat
from tests.images.kdump_builder import (
    END,
    Kdump,
    Record,
    makedumpfile_records,
    qemu_records,
)
from tests.images.kdump_builder import flattened as flat
from tests.images.sparse_assembly import SparseAssembly, assembled, survives
from tests.images.test_kdump import PAGE, PAGES, SMALL, expect, noise, page_of

MANY = Kdump(
    {
        frame: page_of(frame) if frame % 5 else noise(frame) if frame % 3 else bytes(PAGE)
        for frame in range(4000)
        if frame % 700
    },
    frames=70_000,
)


def read(records: list[Record], dump: Kdump, **options: Any) -> SparseAssembly:
    """Reads these records."""
    data = flat(records)
    assembly = assembled(flattened.FORMAT, data, **options)
    assert assembly.file == data
    expect(assembly, dump)
    return assembly


@pytest.mark.parametrize("chunk", [1, 4096, 1 << 20])
@pytest.mark.parametrize("words", [32, 64])
@pytest.mark.parametrize("little", [True, False], ids=["little", "big"])
def test_small_dumps(chunk: int, words: int, little: bool) -> None:
    dump = Kdump(PAGES, words=words, little=little)
    for records in (qemu_records(dump), makedumpfile_records(dump)):
        assembly = read(records, dump, chunk=chunk)
        assert assembly.notes == []
        assert assembly.facts["format"] == "flattened"


@pytest.mark.parametrize("words", [32, 64])
@pytest.mark.parametrize("version", [1, 5, 6])
def test_versions(words: int, version: int) -> None:
    """Without notes nothing lies behind a sub header, which is shorter in older versions."""
    dump = Kdump(PAGES, words=words, version=version, notes=b"")
    for records in (qemu_records(dump), makedumpfile_records(dump)):
        if version < 6:
            records = [
                (at, data[: 16 if version == 1 else 80] if at == PAGE else data)
                for at, data in records
            ]
        read(records, dump)


def test_descriptors_and_pages_in_turns() -> None:
    for records in (
        qemu_records(MANY),
        makedumpfile_records(MANY),
        makedumpfile_records(MANY, cache=1000),
        makedumpfile_records(MANY, cycle=800),
    ):
        assert len(records) > 20
        assembly = read(records, MANY)
        # Nothing of descriptors or pages but the zero page is kept.
        assert assembly.literal_bytes <= MANY.descriptors_at + len(END) + 4096


def test_larger_pages_wait_in_a_file() -> None:
    """As of an AArch64 guest: pages come before their descriptors, more than fit in memory."""
    size = 1 << 16
    pages = {frame: noise(frame, size) for frame in range(200)}
    dump = Kdump(pages, block_size=size)
    read(qemu_records(dump), dump)


def test_records_in_any_pieces() -> None:
    """The whole file as records of some length."""
    data = SMALL.raw()
    for size in (len(data), 8192, 5000, 4300):
        records = [(at, data[at : at + size]) for at in range(0, len(data), size)]
        read(records, SMALL)


def test_a_sub_header_that_is_written_again() -> None:
    records = makedumpfile_records(SMALL)
    again = bytearray(SMALL.sub_header())
    struct.pack_into("<QQ", again, 64, 12345, 17)
    read([*records, (4096, bytes(again))], SMALL)


def test_what_lies_behind_the_end() -> None:
    data = flat(qemu_records(SMALL))
    for behind, notes in ((b"\0" * 100, 0), (b"more", 1)):
        assembly = assembled(flattened.FORMAT, data + behind)
        assert assembly.file == data + behind
        assert len(assembly.notes) == notes


def test_what_is_no_kdump_file() -> None:
    elf = flat([(0, b"\x7fELF".ljust(500, b"\0"))])
    late = flat([(4096, bytes(500))])
    other = bytearray(flat(qemu_records(SMALL)))
    other[23] = 2
    for data in (elf, late, bytes(other)):
        with pytest.raises(NotThisFormat):
            assembled(flattened.FORMAT, data)


def test_records_that_lie() -> None:
    records = qemu_records(SMALL)
    head, rest = records[:3], records[3:]
    page = (SMALL.data_at, bytes(PAGE))
    for wrong in (
        [*records, page],
        [*records, (SMALL.bitmap_at, b"\0")],
        [*records, (4096 + 8, b"\7")],
        [*records, (SMALL.bitmap_at + PAGE - 1, b"\0\0")],
        [*records, (SMALL.descriptors_at, bytes(24))],
        [*head, (4096 + 700, bytes(7000)), *rest],
        [*head, (SMALL.bitmap_at + 1, b"\1"), *rest],
        [*head, *rest[2:]],
        [records[0], *rest],
        [records[0], *rest, *records[1:3]],
        [*head, *rest[:-1]],
        [*head, *rest[:2], *reversed(rest[2:])][:-1],
        [*head, (-5, b"data"), *rest],
        [*head, (1 << 62, b"data"), *rest],
        [*head, ((1 << 63) - 1, b"data"), *rest],
        [*head, *rest[:2], (SMALL.data_at + 8, b"data")],
        head,
    ):
        with pytest.raises(ImageDamaged):
            assembled(flattened.FORMAT, flat(wrong))
    lying = flat(head)[: -len(END)] + struct.pack(">qq", 1 << 20, 1 << 60)
    for more in (b"", bytes(100)):
        with pytest.raises(ImageDamaged):
            assembled(flattened.FORMAT, lying + more)


def test_truncation_is_always_told() -> None:
    data = flat(qemu_records(SMALL))
    for end in {*range(16, len(data), 61), *range(len(data) - 30, len(data))}:
        with pytest.raises((ImageDamaged, NotThisFormat)) as raised:
            assembled(flattened.FORMAT, data[:end])
        assert raised.type is ImageDamaged


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_dump(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1 << 32))
    chance = random.Random(seed)
    pages = {
        frame: chance.choice([page_of, noise])(frame) if chance.random() < 0.6 else bytes(PAGE)
        for frame in range(chance.randrange(300))
        if chance.random() < 0.9
    }
    dump = Kdump(
        pages,
        frames=300 + chance.randrange(70_000),
        notes=bytes(chance.randrange(9000)),
        words=chance.choice([32, 64]),
        little=chance.random() < 0.5,
        behind=chance.choice([b"", b"erase a"]),
    )
    records = makedumpfile_records(
        dump, cycle=chance.choice([0, 8, 256]), cache=chance.randrange(24, 1 << 16)
    )
    for each in (records, qemu_records(dump)):
        read(each, dump, chunk=chance.choice([999, 1 << 20]))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """Bytes that are others, and records that are elsewhere, are noticed, or kept as they are."""
    records = data.draw(st.sampled_from([qemu_records(SMALL), makedumpfile_records(SMALL)]))
    records = list(records)
    for _ in range(data.draw(st.integers(0, 2))):
        kind = data.draw(st.integers(0, 2))
        at = data.draw(st.integers(0, len(records) - 1))
        if kind == 0:
            records.append(records.pop(at))
        elif kind == 1:
            records.insert(data.draw(st.integers(0, len(records))), records[at])
        else:
            records[at] = (records[at][0] + data.draw(st.integers(-30, 30)), records[at][1])
    image = bytearray(flat(records))
    for _ in range(data.draw(st.integers(0, 3))):
        place = st.one_of(st.integers(0, len(image) - 1), st.integers(4096, 4800))
        image[data.draw(place)] = data.draw(st.integers(0, 255))
    survives(flattened.FORMAT, bytes(image))
