"""mapped-ram: pages of memory in places of their own, holes and stale pages between them."""

import random
import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import mapped_ram, migration
from difffs.images.source import LOOKAHEAD, Source
from tests.images.migration_builder import MIB, PAGE, MigrationBuilder, be32, be64, text
from tests.images.plain_assembly import PlainAssembly
from tests.images.reading import SilentAssembly, pieces, read_image, survives

RAM = "pc.ram"
BLOCKS = {RAM: 300 * PAGE, "/rom@etc/acpi/tables": 32 * PAGE, "pc.bios": 70 * PAGE}


def fill(built: MigrationBuilder, seed: int, share: float = 0.5) -> None:
    """Puts pages into the memory, in runs."""
    source = random.Random(seed)
    for content in built.memory.values():
        written = False
        for start in range(0, len(content), built.page_size):
            if source.random() < 0.2:
                written = source.random() < share
            if written:
                content[start : start + built.page_size] = source.randbytes(built.page_size)


def mapped(
    built: MigrationBuilder,
    *,
    stale: dict[tuple[str, int], bytes] | None = None,
    big_endian: bool = False,
    between: bytes = b"",
    left_out: tuple[str, ...] = (),
) -> bytes:
    """The whole file."""
    built.configuration("pc-q35-10.0", capabilities=("mapped-ram",))
    built.begin_memory()
    built.map_blocks(stale=stale, between=between, left_out=left_out)
    built.end_records()
    for kind in (2, 3):
        built.part(kind)
        built.end_records()
    built.finish()
    return bytes(built.out)


def memory_is(assembly: PlainAssembly, built: MigrationBuilder) -> None:
    """All blocks hold what the machine would have after it took the file in."""
    assert {
        name: bytes(content)
        for name, content in zip(assembly.names, assembly.contents, strict=True)
    } == {name: bytes(content) for name, content in built.memory.items()}


@pytest.mark.parametrize("lengths", [(), (1 << 20,), (1 << 16,), (4097,), (1 << 18, 5)])
def test_a_file_is_rebuilt_and_holes_are_no_bytes(lengths: tuple[int, ...]) -> None:
    built = MigrationBuilder(BLOCKS)
    fill(built, 1)
    data = mapped(built)
    assembly = read_image(migration.FORMAT, data, *lengths)
    memory_is(assembly, built)
    assert assembly.names[assembly.main] == RAM
    assert assembly.facts["layout"] == "mapped-ram"
    assert assembly.facts["capabilities"] == ["mapped-ram"]
    assert assembly.notes == []
    assert assembly.literal_bytes < 2500
    assert [len(given) for given in assembly.given] == [300, 32, 70]


@given(
    st.integers(0, 1 << 32),
    st.floats(0, 1),
    st.sampled_from([4096, 8192, 16384, 1024]),
    st.sampled_from([b"", be64(0x1_0000_0000), bytes(16)]),
    st.sampled_from([(), (999,), (MIB,)]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_rebuilt(
    seed: int,
    share: float,
    page_size: int,
    between: bytes,
    lengths: tuple[int, ...],
) -> None:
    blocks = {RAM: 300 * PAGE, "pc.bios": 64 * PAGE, "/rom@etc/acpi/rsdp": 4 * PAGE}
    built = MigrationBuilder(blocks, page_size=page_size)
    fill(built, seed, share)
    source = random.Random(seed)
    stale = {
        (RAM, number): source.randbytes(page_size)
        for number in source.sample(range(300 * PAGE // page_size), 10)
    }
    data = mapped(built, stale=stale, between=between)
    memory_is(read_image(migration.FORMAT, data, *lengths), built)


def test_pages_that_are_not_in_the_bitmap_are_zeros_whatever_the_file_has() -> None:
    built = MigrationBuilder(BLOCKS)
    fill(built, 2)
    built.memory[RAM][40 * PAGE : 60 * PAGE] = bytes(20 * PAGE)
    data = mapped(built, stale={(RAM, 44): b"stale" * 819 + b"!", (RAM, 45): b"\0" * 4095 + b"x"})
    assembly = read_image(migration.FORMAT, data)
    memory_is(assembly, built)
    assert 2 * PAGE < assembly.literal_bytes < 2 * PAGE + 2500


def test_long_runs_are_told_at_once() -> None:
    pages = 64 << 8
    built = MigrationBuilder({RAM: pages * PAGE})
    middle = slice(pages // 4 * PAGE, pages // 2 * PAGE)
    built.memory[RAM][middle] = random.Random(1).randbytes(pages // 4 * PAGE)
    data = mapped(built)
    runs: list[int] = []

    class Counting(PlainAssembly):
        def memory(self, block: int, offset: int, data: memoryview | bytes) -> None:
            runs.append(len(data))
            super().memory(block, offset, data)

        def zeros(self, count: int) -> None:
            runs.append(count)
            super().zeros(count)

    assembly = Counting()
    migration.FORMAT.read(Source(pieces(data, 1 << 20)), assembly)
    assert assembly.file == data
    memory_is(assembly, built)
    assert len(runs) <= 66


def test_offsets_are_those_of_the_file_that_the_stream_lies_in() -> None:
    head = b"LibvirtQemudSave" + bytes(68_315)
    built = MigrationBuilder(BLOCKS, start=len(head))
    fill(built, 3)
    data = head + mapped(built)
    assembly = PlainAssembly()
    source = Source(pieces(data, 1 << 18))
    assembly.literal(source.take(len(head), "the header"))
    migration.read_stream(source, assembly)
    assert assembly.file == data
    memory_is(assembly, built)
    with pytest.raises(ImageDamaged):  # without what they count from
        migration.FORMAT.read(Source(iter([data[len(head) :]])), PlainAssembly())


def test_shared_memory_may_be_left_out() -> None:
    built = MigrationBuilder(BLOCKS)
    fill(built, 4)
    kept = bytes(built.memory["pc.bios"])
    data = mapped(built, between=be64(0), left_out=(RAM,))
    assembly = read_image(migration.FORMAT, data)
    assert bytes(assembly.contents[2]) == kept
    assert not any(assembly.memory_bytes)
    [note] = assembly.notes
    assert RAM in note


def test_the_guests_memory_may_come_behind_another_block() -> None:
    built = MigrationBuilder({"0000:00:01.0/vga.vram": 400 * PAGE, RAM: 300 * PAGE})
    fill(built, 5)
    assembly = read_image(migration.FORMAT, mapped(built))
    assert assembly.memory_bytes == bytes(built.memory[RAM])


@pytest.mark.parametrize("big_endian", [False, True])
def test_the_bitmap_is_read_the_way_round_that_the_first_pages_show(big_endian: bool) -> None:
    built = MigrationBuilder({RAM: 640 * PAGE})
    for number in [0, 1, 2, 70, *range(128, 200), 639]:
        built.memory[RAM][number * PAGE] = 1
    memory_is(read_image(migration.FORMAT, mapped(built, big_endian=big_endian)), built)


def test_a_file_cut_off_in_its_memory_is_damaged_wherever_that_is() -> None:
    built = MigrationBuilder(BLOCKS)
    fill(built, 6)
    data = mapped(built)
    end = data.index(b"\4" + be32(40))
    for length in [*range(8, 400, 3), *range(400, end, 65_537), end - 1]:
        with pytest.raises(ImageDamaged):
            migration.FORMAT.read(Source(iter([data[:length]])), SilentAssembly())


def with_header(header: bytes, *, size: int = 10 * PAGE) -> bytes:
    """A file whose first block has such a header."""
    built = MigrationBuilder({})
    built.begin_memory()
    built.out[-8:] = be64(size | 4)
    return bytes(built.out) + text(RAM) + be64(size) + header + bytes(2 * MIB)


@pytest.mark.parametrize(
    ("header", "size", "said"),
    [
        (struct.pack(">IQQQ", 1, PAGE, 1, MIB), 10 * PAGE, "lies before its header"),
        (struct.pack(">IQQQ", 1, PAGE, 1000, 1001), 10 * PAGE, "before the end of their bitmap"),
        (struct.pack(">IQQQ", 1, PAGE, 1000, 500), 10 * PAGE, "before the end of their bitmap"),
        (struct.pack(">IQQQ", 1, PAGE, 1 << 63, (1 << 63) + MIB), 10 * PAGE, "are missing"),
        (struct.pack(">IQQQ", 1, PAGE, 1000, 1 << 63), 10 * PAGE, "are missing"),
        (struct.pack(">IQQQ", 1, PAGE, 1000, MIB), 1 << 30, "are missing"),
        (struct.pack(">IQQQ", 1, PAGE, 1000, MIB), 2 << 40, "more than can be mapped"),
        (struct.pack(">IQQQ", 2, PAGE, 1000, MIB), 10 * PAGE, "does not go on"),
        (struct.pack(">IQQQ", 1, 100, 1000, MIB), 10 * PAGE, "does not go on"),
    ],
)
def test_headers_that_lie(header: bytes, size: int, said: str) -> None:
    with pytest.raises(ImageDamaged, match=said):
        migration.FORMAT.read(Source(iter([with_header(header, size=size)])), SilentAssembly())


def test_blocks_that_are_mapped_and_not() -> None:
    built = MigrationBuilder({RAM: PAGE, "pc.bios": PAGE})
    built.begin_memory()
    first = text(RAM) + be64(PAGE)
    second = text("pc.bios") + be64(PAGE)
    header = struct.pack(">IQQQ", 1, PAGE, 0, 0)
    for listed in (first + header + second, first + second + header):
        with pytest.raises(ImageDamaged, match="mapped"):
            migration.FORMAT.read(
                Source(iter([bytes(built.out) + listed + be64(0x10) + bytes(5000)])),
                SilentAssembly(),
            )


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_never_rebuilt_differently(data: st.DataObject) -> None:
    built = MigrationBuilder({RAM: 20 * PAGE, "pc.bios": 3 * PAGE})
    fill(built, 7)
    broken = bytearray(mapped(built))
    structure = [0, 100, 180, MIB + 20 * PAGE, 2 * MIB + 3 * PAGE, len(broken) - 300]
    for _ in range(data.draw(st.integers(1, 4))):
        near = data.draw(st.sampled_from(structure)) + data.draw(st.integers(0, 100))
        broken[near % len(broken)] = data.draw(st.integers(0, 255))
    survives(migration.FORMAT, bytes(broken), data.draw(st.sampled_from([1 << 20, 5000])))


def test_memory_for_a_large_guest_is_bounded() -> None:
    size = 4 << 30
    head = bytearray(MigrationBuilder({}).out)
    head += b"\1" + be32(2) + text("ram") + be32(0) + be32(4) + be64(size | 4)
    head += text(RAM) + be64(size)
    head += struct.pack(">IQQQ", 1, PAGE, len(head) + 28, MIB)
    piece = bytes(LOOKAHEAD)

    def file() -> Iterator[bytes]:
        start = bytes(head) + bytes(size // PAGE // 8)
        yield start + bytes(MIB - len(start))
        for _ in range(size // len(piece)):
            yield piece
        # Nothing more: what is read to here is what takes memory.

    assert size // PAGE // 8 + len(head) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(ImageDamaged, match="ends within a section of memory"):
            migration.FORMAT.read(Source(file()), SilentAssembly())
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_header_is_told_from_other_numbers() -> None:
    header = struct.pack(">IQQQ", 1, PAGE, 0x88, MIB)
    assert mapped_ram.header_at(memoryview(b"x" + header), 1) == mapped_ram.MappedRamHeader(
        PAGE, 0x88, MIB
    )
    assert mapped_ram.header_at(memoryview(header[:-1]), 0) is None
    assert mapped_ram.header_at(memoryview(be64(1 << 32) + text("pc.bios") + bytes(28)), 0) is None
