"""ELF cores of physical memory."""

import itertools
import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import elf
from difffs.images.format import NotThisFormat
from difffs.images.source import Source
from tests.images.elf_builder import Mapping, elf_core, note
from tests.images.sparse_assembly import SparseAssembly, assembled, chunks, survives


class Nothing(SparseAssembly):
    """Takes nothing down."""

    def literal(self, data: memoryview | bytes) -> None:
        pass

    def memory(self, block: int, offset: int, data: memoryview | bytes) -> None:
        pass


QEMU_NOTE = note("<", b"CORE", 1, bytes(336)) + note("<", b"QEMU", 0, bytes(440))


@st.composite
def cores(draw: Any) -> tuple[list[tuple[int, bytes]], bytes]:
    """Stretches of memory in the file's order, and a core of them."""
    address = 0
    stretches = []
    for _ in range(draw(st.integers(1, 5))):
        address += draw(st.sampled_from([0, 1, 0x1000, 0xA0000, 1 << 29]))
        data = random.Random(draw(st.integers(0, 99))).randbytes(draw(st.integers(1, 9_000)))
        stretches.append((address, data))
        address += len(data)
    if len(stretches) == 1 and stretches[0][0] == 0:
        stretches[0] = (0x1000, stretches[0][1])
    stretches = draw(st.permutations(stretches))
    mappings = []
    for index, (_address, data) in enumerate(stretches):
        # Parts that together are all of it, in any order, and some that come twice.
        cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=4)) | {0, len(data)})
        for low, high in itertools.pairwise(cuts):
            low = draw(st.sampled_from([low, 0, low // 2]))
            mappings.append(Mapping(index, low, high - low, draw(st.integers(0, 1 << 31))))
    return stretches, elf_core(
        stretches,
        draw(st.permutations(mappings)),
        bits=draw(st.sampled_from([64, 32])),
        order=draw(st.sampled_from("<>")),
        counted=draw(st.sampled_from([None, "before", "behind"])),
        notes=draw(st.sampled_from([b"", QEMU_NOTE])),
        between=draw(st.binary(max_size=9)),
        tail=draw(st.binary(max_size=20)),
    )


@given(cores(), st.sampled_from([97, 4096, 1 << 20]))
@settings(deadline=None)
def test_round_trip(case: tuple[list[tuple[int, bytes]], bytes], chunk: int) -> None:
    stretches, core = case
    assembly = assembled(elf.FORMAT, core, chunk=chunk)
    assert assembly.file == core
    assert assembly.notes == []
    assert assembly.lengths == [max(address + len(data) for address, data in stretches)]
    for address, data in stretches:
        assert assembly.content(address, len(data)) == data
    assert sum(len(data) for _at, data in assembly.pieces[0]) == sum(
        len(data) for _at, data in stretches
    )


def test_a_byte_at_a_time() -> None:
    core = elf_core([(0x1000, b"m" * 300), (7, b"n" * 9)], notes=QEMU_NOTE, tail=b"tail")
    assembly = assembled(elf.FORMAT, core, chunk=1)
    assert assembly.file == core
    assert assembly.content(0, 0x112C) == bytes(7) + b"n" * 9 + bytes(0xFF0) + b"m" * 300


def test_facts() -> None:
    core = elf_core([(0x1000, bytes(4096))], notes=QEMU_NOTE)
    assert assembled(elf.FORMAT, core).facts == {
        "format": "elf",
        "bits": 64,
        "byte_order": "little",
        "architecture": "x86-64",
        "segments": 2,
        "creator": "QEMU",
    }
    core = elf_core(
        [(0, b"memory")], bits=32, order=">", machine=8, notes=note(">", b"VBCORE", 0xB00, b"x")
    )
    assert assembled(elf.FORMAT, core).facts == {
        "format": "elf",
        "bits": 32,
        "byte_order": "big",
        "architecture": "mips",
        "segments": 2,
        "creator": "VirtualBox",
    }


def test_memory_that_the_file_leaves_out() -> None:
    """p_memsz counts for the memory's length, but not where a segment has nothing in the file, as
    VirtualBox's of devices."""
    core = elf_core(
        [(0x1000, b"a" * 4096), (0xE0000000, b"")],
        [Mapping(0, 0, 4096, more=8192), Mapping(1, 0, 0, more=0x10000000)],
    )
    assembly = assembled(elf.FORMAT, core)
    assert assembly.lengths == [0x1000 + 4096 + 8192]
    assert assembly.content(0, 0x4000) == bytes(4096) + b"a" * 4096 + bytes(8192)
    # QEMU says of a mapping of what it does not dump that it has offset -1.
    lost = struct.pack("<IIQQQQQQ", 1, 0, (1 << 64) - 1, 5, 0xFED00000, 0, 4096, 0)
    core = core[:176] + lost + core[232:]
    assembly = assembled(elf.FORMAT, core)
    assert (assembly.file, assembly.lengths) == (core, [0x4000])


def test_one_place_in_memory_for_each_byte_of_the_file() -> None:
    stretches = [(0x100000, b"a" * 4096 + b"b" * 4096), (0x200000, b"c" * 4096)]
    core = elf_core(
        stretches,
        [Mapping(0, 0, 8192), Mapping(0, 4096, 4096, physical=0x500000), Mapping(1, 0, 4096)],
    )
    assembly = assembled(elf.FORMAT, core)
    assert assembly.file == core
    assert [note.startswith("memory is incomplete") for note in assembly.notes] == [True]
    assert assembly.content(0x100000, 8192) == stretches[0][1]
    assert assembly.content(0x200000, 4096) == stretches[1][1]
    assert assembly.content(0x500000, 4096) == bytes(4096)


def test_one_place_in_the_file_for_each_byte_of_memory() -> None:
    """A copy of /proc/vmcore has the kernel's text twice."""
    core = elf_core([(0x103000, b"t" * 8192), (0x100000, b"abcdefgh" * 4096)])
    assembly = assembled(elf.FORMAT, core)
    assert assembly.file == core
    assert [note.startswith("the file has 8,192 bytes") for note in assembly.notes] == [True]
    expected = bytearray(b"abcdefgh" * 4096)
    expected[0x3000:0x5000] = b"t" * 8192
    assert assembly.content(0x100000, 32768) == expected


@pytest.mark.parametrize(
    "core",
    [
        elf_core([(0, b"text"), (0, b"stack")], [Mapping(0, 0, 4, 0x400000), Mapping(1, 0, 5, 9)]),
        elf_core([(0, b"text")], [Mapping(0, 0, 4, 0x400000)]),
        elf_core([], notes=QEMU_NOTE),
    ],
    ids=["a process", "a process of one segment", "nothing but notes"],
)
def test_what_is_no_memory(core: bytes) -> None:
    assert elf.FORMAT.matches(memoryview(core))
    with pytest.raises(NotThisFormat):
        assembled(elf.FORMAT, core)


def test_a_machine_whose_memory_begins_at_0() -> None:
    for mapping in (Mapping(0, 0, 4096), Mapping(0, 0, 4096, 0xFFFF888000000000)):
        core = elf_core([(0, b"m" * 4096)], [mapping])
        assert assembled(elf.FORMAT, core).content(0, 4096) == b"m" * 4096


def test_what_is_no_core() -> None:
    for kind in (1, 2, 3):
        assert not elf.FORMAT.matches(memoryview(elf_core([(0, b"x")], kind=kind)))
    assert not elf.FORMAT.matches(memoryview(b"\x7fELF"))
    assert not elf.FORMAT.matches(memoryview(bytes(4096)))


@pytest.mark.parametrize("counted", ["before", "behind"])
@pytest.mark.parametrize("bits", [32, 64])
def test_seventy_thousand_segments(counted: str, bits: int) -> None:
    """More than e_phnum can say, and than can be looked ahead at: with paging, of one stretch."""
    data = random.Random(1).randbytes(70_000 * 16)
    parts = [Mapping(0, at * 16, 16, at) for at in range(70_000)]
    random.Random(2).shuffle(parts)
    core = elf_core([(0x100000, data)], parts, bits=bits, counted=counted)
    assembly = assembled(elf.FORMAT, core, chunk=65536)
    assert assembly.file == core
    assert assembly.content(0x100000, len(data)) == data


def test_memory_for_many_segments_is_bounded() -> None:
    """The headers themselves, and at most as much again as they need when none meet."""
    parts = [Mapping(0, at * 32, 16, at) for at in range(20_000)]
    core = elf_core([(0x100000, bytes(20_000 * 32))], parts, counted="behind")
    tracemalloc.start()
    elf.FORMAT.read(Source(chunks(core, 65536)), Nothing())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_scattered_segments_are_bounded() -> None:
    parts = [Mapping(0, at * 32, 16, at) for at in range(70_000)]
    core = elf_core([(0x100000, bytes(70_000 * 32))], parts, counted="before")
    with pytest.raises(ImageDamaged, match="more than 65,536 segments that do not meet"):
        assembled(elf.FORMAT, core)


def lying(**changed: int) -> bytes:
    """A core with numbers of its header or its first PT_LOAD replaced."""
    core = bytearray(elf_core([(0x1000, b"m" * 4096), (0x9000, b"n" * 4096)]))
    places = {
        "phoff": (32, "<Q"),
        "shoff": (40, "<Q"),
        "phentsize": (54, "<H"),
        "phnum": (56, "<H"),
        "offset": (64 + 56 + 8, "<Q"),
        "physical": (64 + 56 + 24, "<Q"),
        "in_file": (64 + 56 + 32, "<Q"),
        "in_memory": (64 + 56 + 40, "<Q"),
    }
    for name, value in changed.items():
        place, layout = places[name]
        struct.pack_into(layout, core, place, value)
    return bytes(core)


@pytest.mark.parametrize(
    ("core", "at", "text"),
    [
        (lying(phoff=1 << 60), 0, "program headers begin"),
        (lying(phoff=3), 0, "program headers begin"),
        (lying(phentsize=1), 0, "1 bytes each"),
        (lying(phnum=0xFFFE), None, "within the program headers"),
        (lying(phnum=0xFFFF, shoff=1 << 60), None, "would have"),
        (lying(physical=1 << 60), 120, "cannot be"),
        (lying(in_memory=1 << 50), 120, "cannot be"),
        (lying(offset=1 << 63), 120, "cannot be"),
        (lying(in_file=1 << 40), None, "ends within"),
        (lying(offset=1 << 40), None, "ends within"),
    ],
)
def test_headers_that_lie(core: bytes, at: int | None, text: str) -> None:
    with pytest.raises(ImageDamaged, match=text) as caught:
        assembled(elf.FORMAT, core)
    if at is not None:
        assert f"at {at:,}:" in str(caught.value)


def test_a_file_that_is_shorter_than_its_headers_say_is_refused_at_once() -> None:
    core = elf_core([(0x1000, b"m" * 4096)], tail=b"x")
    assembly = SparseAssembly()
    with pytest.raises(ImageDamaged, match="it has memory up to"):
        elf.FORMAT.read(Source(iter([core[:-2]]), size=len(core) - 2), assembly)
    assert assembly.names == []


def test_segments_within_the_headers() -> None:
    core = lying(offset=0)
    assembly = assembled(elf.FORMAT, core)
    assert assembly.file == core
    assert any("bytes of the headers" in each for each in assembly.notes)


@pytest.mark.parametrize("counted", [None, "before", "behind"])
def test_cut_off_anywhere(counted: str | None) -> None:
    core = elf_core(
        [(0x1000, b"m" * 300), (0x9000, b"n" * 300)], notes=QEMU_NOTE, counted=counted, tail=b"tail"
    )
    for length in range(20, len(core) - 4):
        with pytest.raises(ImageDamaged):
            assembled(elf.FORMAT, core[:length], chunk=64)
    for length in range(len(core) - 4, len(core)):
        assert assembled(elf.FORMAT, core[:length]).file == core[:length]


@given(cores(), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1))
@settings(deadline=None)
def test_flipped_bytes(
    case: tuple[list[tuple[int, bytes]], bytes], flips: list[tuple[int, int]]
) -> None:
    core = bytearray(case[1])
    for place, value in flips:
        # Mostly where the headers are.
        core[place % (len(core) if place % 4 == 0 else min(len(core), 400))] = value
    survives(elf.FORMAT, bytes(core))
