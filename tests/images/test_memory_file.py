"""The guest's memory, and nothing else, in a sparse file."""

import errno
import os
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import elf, lime, memory_file
from difffs.images.assembly import Assembly, Packing
from difffs.images.format import Format
from difffs.images.memory_file import MemoryFile
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from tests.images.elf_builder import elf_core
from tests.images.lime_builder import lime_dump
from tests.images.plain_assembly import PlainAssembly
from tests.images.sparse_assembly import chunks
from tests.stores import scratch

Call = Callable[[Assembly], None]

PAGES = 6
"""Of each block, but for the last one's half."""
LENGTH = PAGES * PAGE_SIZE + PAGE_SIZE // 2


@contextmanager
def memory_files() -> Iterator[Callable[[], MemoryFile]]:
    """Makes assemblies with empty files, in memory where possible."""
    with scratch() as folder:
        files: list[int] = []

        def make() -> MemoryFile:
            files.append(os.open(folder / str(len(files)), os.O_RDWR | os.O_CREAT))
            return MemoryFile(files[-1], "vm.save")

        try:
            yield make
        finally:
            for file in files:
                os.close(file)


@pytest.fixture
def memory() -> Iterator[MemoryFile]:
    """An assembly with an empty file."""
    with memory_files() as make:
        yield make()


def content(memory: MemoryFile) -> bytes:
    """All that is in the file."""
    size = os.fstat(memory._file).st_size
    assert size == memory.length
    return os.pread(memory._file, size + 1, 0)


def data_ranges(memory: MemoryFile) -> list[tuple[int, int]]:
    """(start, end) of what is no hole."""
    ranges: list[tuple[int, int]] = []
    end = 0
    while True:
        try:
            start = os.lseek(memory._file, end, os.SEEK_DATA)
        except OSError:  # nothing but a hole is left
            return ranges
        end = os.lseek(memory._file, start, os.SEEK_HOLE)
        ranges.append((start, end))


@st.composite
def contents(draw: Any, length: int) -> bytes:
    """Bytes of which some pages, or parts of pages, are zeros."""
    data = bytearray(random.Random(draw(st.integers(0, 999))).randbytes(length))
    for start in draw(st.lists(st.integers(0, max(0, length - 1)), max_size=3)):
        end = min(length, start + draw(st.sampled_from([1, 100, PAGE_SIZE, 3 * PAGE_SIZE])))
        data[start:end] = bytes(end - start)
    return bytes(data)


@st.composite
def calls(draw: Any) -> Call:
    """Something that a reader tells of one of two blocks, or of no memory."""
    kind = draw(
        st.sampled_from(
            ["memory", "apart", "records", "zero records", "packed", "zero memory", "literal"]
        )
    )
    block = draw(st.sampled_from([0, 1, 1, 1]))
    if kind in ("memory", "apart"):
        offset = draw(st.integers(0, LENGTH - 1))
        data = draw(contents(draw(st.integers(0, LENGTH - offset))))
        if kind == "memory":
            return lambda assembly: assembly.memory(block, offset, memoryview(data))
        return lambda assembly: assembly.memory_apart(block, offset, data)
    if kind == "literal":
        return lambda assembly: assembly.literal(b"a header")
    page = draw(st.integers(0, PAGES - 1))
    count = draw(st.integers(1, PAGES - page))
    offset = page * PAGE_SIZE
    if kind == "zero records":
        return lambda assembly: assembly.zero_records(block, offset, offset | 2, count)
    if kind == "zero memory":
        return lambda assembly: assembly.zero_memory(block, offset, count * PAGE_SIZE)
    pages = draw(contents(count * PAGE_SIZE))
    if kind == "records":
        return lambda assembly: assembly.page_records(block, offset, offset | 8, pages)
    each = [pages[at : at + PAGE_SIZE] for at in range(0, len(pages), PAGE_SIZE)]
    sizes = [len(zlib.compress(page, 1)) for page in each]
    return lambda assembly: assembly.packed_pages(Packing.ZLIB_1, block, offset, pages, sizes)


@given(st.lists(calls(), max_size=12))
@settings(deadline=None)
def test_the_file_is_the_memory_that_a_reader_tells(told: list[Call]) -> None:
    plain = PlainAssembly()
    with memory_files() as make:
        memory = make()
        for assembly in (memory, plain):
            assembly.blocks([("video", LENGTH), ("ram", LENGTH)], 1)
            for call in told:
                call(assembly)
        assert content(memory) == plain.memory_bytes


def noise(pages: int) -> bytes:
    """Pages without a zero page."""
    return random.Random(pages).randbytes(pages * PAGE_SIZE)


@pytest.mark.parametrize(
    ("form", "image"),
    [
        (lime.FORMAT, lime_dump([(0x1000, noise(2) + b"end"), (0x9000, bytes(PAGE_SIZE) * 3)])),
        (elf.FORMAT, elf_core([(0, noise(3)), (0x8000, bytes(PAGE_SIZE) + noise(1))])),
    ],
)
def test_readers_write_memory(form: Format, image: bytes, memory: MemoryFile) -> None:
    plain = PlainAssembly()
    for assembly in (memory, plain):
        form.read(Source(chunks(image, 5000)), assembly)
    assert content(memory) == plain.memory_bytes
    assert memory.length > 0
    assert memory.facts == plain.facts
    assert memory.notes == plain.notes


def test_holes_stay_holes(memory: MemoryFile) -> None:
    pages = noise(1) + bytes(2 * PAGE_SIZE) + noise(1)
    memory.blocks([("ram", 64 << 30)], 0)
    memory.memory(0, 0, pages)
    memory.zero_records(0, 8 * PAGE_SIZE, 0, 4)
    memory.memory(0, 32 << 30, noise(2))
    memory.zero_memory(0, 33 << 30, 1 << 30)
    assert data_ranges(memory) == [
        (0, PAGE_SIZE),
        (3 * PAGE_SIZE, 4 * PAGE_SIZE),
        (32 << 30, (32 << 30) + 2 * PAGE_SIZE),
    ]
    assert os.fstat(memory._file).st_size == 64 << 30


@pytest.mark.parametrize("by", ["records", "data", "memory"])
def test_pages_that_become_zeros_give_their_room_back(memory: MemoryFile, by: str) -> None:
    memory.blocks([("ram", 8 * PAGE_SIZE)], 0)
    memory.page_records(0, 0, 8, noise(8))
    if by == "records":
        memory.zero_records(0, PAGE_SIZE, 2, 6)
    elif by == "memory":
        memory.zero_memory(0, PAGE_SIZE, 6 * PAGE_SIZE)
    else:
        memory.page_records(0, PAGE_SIZE, 8, bytes(6 * PAGE_SIZE))
    assert data_ranges(memory) == [(0, PAGE_SIZE), (7 * PAGE_SIZE, 8 * PAGE_SIZE)]
    assert content(memory) == noise(8)[:PAGE_SIZE] + bytes(6 * PAGE_SIZE) + noise(8)[-PAGE_SIZE:]


def test_a_file_system_without_holes_gets_zeros(
    memory: MemoryFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, _offset: int, _length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(memory_file, "punch_hole", refuse)
    pages = noise(600)
    memory.blocks([("ram", len(pages))], 0)
    memory.memory(0, 0, pages)
    memory.zero_memory(0, PAGE_SIZE, 500 * PAGE_SIZE)
    assert content(memory) == pages[:PAGE_SIZE] + bytes(500 * PAGE_SIZE) + pages[501 * PAGE_SIZE :]


def test_memory_grows_with_what_is_told(memory: MemoryFile) -> None:
    memory.blocks([("memory", 0), ("device", 0)], 0)
    memory.grow(0, PAGE_SIZE)
    memory.grow(1, 9 * PAGE_SIZE)
    memory.memory(0, 0, noise(1))
    memory.grow(0, 3 * PAGE_SIZE + 5)
    memory.memory(0, 3 * PAGE_SIZE, b"seven"[:5])
    assert content(memory) == noise(1) + bytes(2 * PAGE_SIZE) + b"seven"


def test_later_blocks_are_left_out(memory: MemoryFile) -> None:
    memory.blocks([("first", PAGE_SIZE)], 0)
    memory.memory(0, 0, noise(1))
    memory.more_blocks([("small", 10)], 0)
    assert memory.notes == []
    memory.more_blocks([("larger", 2 * PAGE_SIZE)], 2)
    memory.memory(2, 0, noise(2))
    assert content(memory) == noise(1)
    assert memory.notes == ["the block 'first', which comes first, is taken for the guest's memory"]


def test_a_container_counts_for_nothing(memory: MemoryFile) -> None:
    memory.begin_container()
    memory.blocks([("ram", 2 * PAGE_SIZE)], 0)
    memory.container_literal(b"makedumpfile")
    memory.container_record(0, 100)
    memory.at(PAGE_SIZE)
    memory.memory(0, PAGE_SIZE, noise(1))
    memory.at(0)
    memory.literal(b"x" * 100)
    memory.descriptors(0, [5], 0)
    memory.repeated(b"y", 3)
    memory.zeros(3)
    memory.container_inner(0, 8)
    memory.container_zeros(8)
    memory.packed("gzip", 0, [], b"")
    memory.packed("xz", 100, [], b"")
    assert memory.compression == "gzip"
    assert content(memory) == bytes(PAGE_SIZE) + noise(1)


@pytest.mark.parametrize("length", [-1, MAXIMUM_VOLUME_SIZE + 1])
def test_a_memory_of_impossible_size_is_damage(memory: MemoryFile, length: int) -> None:
    with pytest.raises(ImageDamaged, match=r"image vm\.save is damaged: its memory has"):
        memory.blocks([("ram", length)], 0)


@pytest.mark.parametrize("offset", [-PAGE_SIZE, PAGE_SIZE, 1 << 60])
def test_memory_behind_its_end_is_damage(memory: MemoryFile, offset: int) -> None:
    memory.blocks([("ram", 2 * PAGE_SIZE)], 0)
    with pytest.raises(ImageDamaged, match="it has memory at"):
        memory.page_records(0, offset, 8, noise(2))
    with pytest.raises(ImageDamaged, match="it has memory at"):
        memory.zero_records(0, offset, 8, 2)
    assert content(memory) == bytes(2 * PAGE_SIZE)
