"""QEMU's migration stream: what an independent writer makes is rebuilt, and its memory too."""

import os
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.errors import ImageDamaged
from difffs.images import migration
from difffs.images.format import NotThisFormat
from difffs.images.ram_blocks import guest_memory
from difffs.images.source import Source
from difffs.page import MAXIMUM_VOLUME_SIZE
from tests.images.migration_builder import PAGE, MigrationBuilder, be32, be64, text
from tests.images.plain_assembly import PlainAssembly
from tests.images.reading import SilentAssembly, pieces, read_image, survives

RAM = "pc.ram"
BLOCKS = {RAM: 64 * PAGE, "/rom@etc/acpi/tables": 32 * PAGE, "pc.bios": 8 * PAGE}


def page_of(seed: int, size: int = PAGE) -> bytes:
    """A page that is no other's."""
    return random.Random(seed).randbytes(size)


def begun(blocks: dict[str, int] | None = None, **options: int | bool) -> MigrationBuilder:
    """A stream up to the end of the memory's START."""
    built = MigrationBuilder(blocks or BLOCKS, **options)  # type: ignore[arg-type]
    built.configuration()
    built.begin_memory()
    built.list_blocks()
    built.end_records()
    return built


def ended(built: MigrationBuilder) -> bytes:
    """The stream, when all that is left is its end."""
    built.part(3)
    built.end_records()
    built.finish()
    return bytes(built.out)


def small_stream() -> tuple[bytes, MigrationBuilder]:
    """A bit of everything that a usual stream has."""
    built = begun()
    built.part()
    for number in range(20):
        built.page(RAM, number, page_of(number))
    for number in range(20, 50):
        built.zero(RAM, number)
    built.page("pc.bios", 3, page_of(99))
    built.end_records()
    built.part()
    built.page(RAM, 7, page_of(107))
    built.zero(RAM, 8)
    built.page(RAM, 51, page_of(151))
    built.end_records()
    built.command(0x0B)
    return ended(built), built


def memory_is(assembly: PlainAssembly, built: MigrationBuilder) -> None:
    """All blocks hold what the machine would have after it took the stream in."""
    assert {
        name: bytes(content)
        for name, content in zip(assembly.names, assembly.contents, strict=True)
    } == {name: bytes(content) for name, content in built.memory.items()}


def damage(data: bytes) -> str:
    """The one line that is said of a damaged stream."""
    with pytest.raises(ImageDamaged) as caught:
        read_image(migration.FORMAT, data)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("lengths", [(), (1,), (4104,), (13, 70_000), (1 << 20,)])
def test_a_stream_is_rebuilt_and_its_memory_is_what_qemu_would_load(
    lengths: tuple[int, ...],
) -> None:
    data, built = small_stream()
    assembly = read_image(migration.FORMAT, data, *lengths)
    memory_is(assembly, built)
    assert assembly.names[assembly.main] == RAM
    assert assembly.facts == {
        "format": "migration",
        "version": 3,
        "machine": "pc-q35-7.2",
        "memory_block": RAM,
        "page_size": PAGE,
    }
    assert assembly.notes == []
    assert assembly.literal_bytes < 3 * PAGE + 1500  # those that name their block


def test_pages_are_told_in_long_runs() -> None:
    count = 2000
    built = begun({RAM: 2 * count * PAGE})
    built.part()
    for number in range(count):
        built.page(RAM, number, page_of(number))
    for number in range(count, 2 * count):
        built.zero(RAM, number)
    built.end_records()
    data = ended(built)
    calls: list[int] = []

    class Counting(PlainAssembly):
        def page_records(
            self, block: int, offset: int, first: int, pages: memoryview | bytes
        ) -> None:
            calls.append(len(pages) // PAGE)
            super().page_records(block, offset, first, pages)

        def zero_records(self, block: int, offset: int, first: int, count: int) -> None:
            calls.append(count)
            super().zero_records(block, offset, first, count)

    assembly = Counting()
    migration.FORMAT.read(Source(pieces(data, 1 << 20)), assembly)
    assert assembly.file == data
    memory_is(assembly, built)
    assert sum(calls) == 2 * count - 1  # the first page names its block
    assert len(calls) < 2 * count / 60


ops = st.lists(
    st.tuples(
        st.sampled_from(["page", "zero", "fill", "compressed", "named", "run", "zeros", "part"]),
        st.sampled_from(list(BLOCKS)),
        st.integers(0, 63),
        st.integers(1, 24),
    ),
    max_size=60,
)


@given(
    ops,
    st.booleans(),
    st.sampled_from([1024, 4096, 8192, 65536]),
    st.sampled_from([(), (1,), (999,), (5000, 3), (1 << 18,)]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_is_rebuilt(
    operations: list[tuple[str, str, int, int]],
    footers: bool,
    page_size: int,
    lengths: tuple[int, ...],
) -> None:
    blocks = {name: length * max(1, page_size // PAGE) for name, length in BLOCKS.items()}
    built = MigrationBuilder(blocks, footers=footers, page_size=page_size)
    built.configuration(page_bits=page_size.bit_length() - 1)
    built.begin_memory()
    built.list_blocks()
    built.end_records()
    built.part()
    for seed, (kind, name, number, count) in enumerate(operations):
        pages = blocks[name] // page_size
        number %= pages
        if kind == "page":
            built.page(name, number, page_of(seed, page_size))
        elif kind == "named":
            built.page(name, number, page_of(seed, page_size), named=True)
        elif kind == "zero":
            built.zero(name, number, named=count < 4)
        elif kind == "fill":
            built.zero(name, number, fill=count)
        elif kind == "compressed":
            built.compressed(name, number, page_of(count, 8) * (page_size // 8))
        elif kind == "part":
            built.end_records()
            built.part()
        else:
            for each in range(number, min(number + count, pages)):
                if kind == "run":
                    built.page(name, each, page_of(each + seed, page_size))
                else:
                    built.zero(name, each)
    built.end_records()
    data = ended(built)
    memory_is(read_image(migration.FORMAT, data, *lengths), built)


@pytest.mark.parametrize("page_size", [1024, 2048, 8192, 16384, 65536])
def test_the_size_of_pages_is_seen_where_it_is_not_told(page_size: int) -> None:
    built = begun({RAM: 32 * 65536}, page_size=page_size)
    built.part()
    built.zero(RAM, 0)
    for number in range(1, 10):
        built.page(RAM, number, page_of(number, page_size))
    built.end_records()
    assembly = read_image(migration.FORMAT, ended(built))
    memory_is(assembly, built)
    assert assembly.facts["page_size"] == page_size
    assert assembly.notes == [f"pages of {page_size:,} bytes are kept twice"]


def test_what_the_configuration_says_is_told() -> None:
    built = MigrationBuilder(BLOCKS)
    built.configuration(
        "virt-10.0", page_bits=12, capabilities=("x-ignore-shared",), uuid=bytes(range(16))
    )
    built.begin_memory()
    built.list_blocks(lambda _name: be64(0x1_0000_0000))
    built.end_records()
    built.part()
    built.page("pc.bios", 0, page_of(1))
    built.end_records()
    assembly = read_image(migration.FORMAT, ended(built))
    memory_is(assembly, built)
    assert assembly.facts["machine"] == "virt-10.0"
    assert assembly.facts["capabilities"] == ["x-ignore-shared"]
    assert assembly.facts["uuid"] == bytes(range(16)).hex()
    [note] = assembly.notes
    assert RAM in note
    assert "x-ignore-shared" in note


@pytest.mark.parametrize(
    "between",
    [
        lambda _name: be64(0),
        lambda name: be64(0xFFFC0000 if name == "pc.bios" else 0),
        lambda name: be64(2 << 20) if name == RAM else b"",
        lambda name: (be64(1 << 30) if name == RAM else b"") + be64(0x1000),
    ],
    ids=["address 0", "addresses", "huge pages of one block", "huge pages and addresses"],
)
def test_numbers_between_the_blocks_are_no_blocks(between: Callable[[str], bytes]) -> None:
    built = MigrationBuilder(BLOCKS)
    built.configuration()
    built.begin_memory()
    built.list_blocks(between)
    built.end_records()
    built.part()
    built.page(RAM, 5, page_of(5))
    built.end_records()
    memory_is(read_image(migration.FORMAT, ended(built)), built)


@pytest.mark.parametrize("footers", [True, False])
def test_other_sections_lie_between_the_parts_of_memory(footers: bool) -> None:
    built = MigrationBuilder(BLOCKS, footers=footers)
    built.out += b"\1" + be32(1) + text("block") + be32(0) + be32(1) + be64(2)
    if footers:
        built.out += b"\x7e" + be32(1)
    built.begin_memory()
    built.list_blocks()
    built.end_records()
    built.other(1, 3, b"bitmap", "dirty-bitmap")
    for number in range(3):
        # Contents that look like footers and heads, but for what must follow those.
        built.other(2, 1, b"\x7e" + be32(1) + b"\2\0\1" + page_of(number) * 90 + b"\x7e" + be32(3))
        built.part()
        built.page(RAM, number, page_of(number))
        built.end_records()
        built.command(4, b"\0\0\0\1")
        built.other(2, 3, b"\2" + be32(2) + be64(0x777))
        built.other(2, 3, b"\1")
    data = ended(built)
    for lengths in ((), (1,), (1 << 16,)):
        memory_is(read_image(migration.FORMAT, data, *lengths), built)


def test_pages_that_went_through_other_channels_are_missed() -> None:
    built = begun()
    built.part()
    built.flush()
    built.end_records()
    [note] = read_image(migration.FORMAT, ended(built)).notes
    assert "multifd" in note


def test_changes_to_pages_are_kept_and_said_to_be_missing_in_memory() -> None:
    built = begun()
    built.part()
    built.page(RAM, 0, page_of(0))
    built.changes(RAM, 0, [(16, b"new")])
    built.end_records()
    assembly = read_image(migration.FORMAT, ended(built))
    assert assembly.memory_bytes[:PAGE] == page_of(0)
    [note] = assembly.notes
    assert "incomplete" in note
    assert RAM in note


@pytest.mark.parametrize(
    ("blocks", "chosen"),
    [
        ({"pc.ram": 8, "0000:00:01.0/vga.vram": 16}, "pc.ram"),
        ({"0000:00:02.0/qxl.vgavram": 64, "mach-virt.ram": 32, "virt.flash0": 64}, "mach-virt.ram"),
        (
            {"/objects/vga-memory": 8, "pc.rom": 32, "/rom@etc/acpi/tables": 64},
            "/objects/vga-memory",
        ),
        ({"ram-node0": 8, "ram-node1": 8}, "ram-node0"),
        ({"pc.bios": 1, "vga.vram": 2}, "vga.vram"),
    ],
)
def test_the_guests_memory_is_the_largest_block_that_is_no_devices(
    blocks: dict[str, int], chosen: str
) -> None:
    assert list(blocks)[guest_memory(list(blocks.items()))] == chosen


def test_a_stream_behind_something_else() -> None:
    data, built = small_stream()
    assembly = PlainAssembly()
    source = Source(pieces(b"LibvirtQemudSave" + data + bytes(5000), 1 << 16))
    assembly.literal(source.take(16, "the header"))
    migration.read_stream(source, assembly)
    assert assembly.file == b"LibvirtQemudSave" + data + bytes(5000)
    assert "format" not in assembly.facts
    assert assembly.notes == []
    memory_is(assembly, built)


def test_an_end_that_is_missing_is_said() -> None:
    data, _built = small_stream()
    assert read_image(migration.FORMAT, data + bytes(100)).notes == []
    bare = begun()
    bare.part(3)
    bare.end_records()
    bare.finish(description=False)
    [note] = read_image(migration.FORMAT, bytes(bare.out)).notes  # that it has no pages
    assert "pages" in note
    assert "no proper end" in damage(data[:-1])


def test_other_versions_are_not_this_format() -> None:
    with pytest.raises(NotThisFormat, match="version 2"):
        read_image(migration.FORMAT, b"QEVM" + be32(2) + bytes(100))
    assert not migration.FORMAT.matches(memoryview(b"QEV"))
    assert not migration.FORMAT.matches(memoryview(bytes(100)))


def test_a_stream_cut_off_in_its_memory_is_damaged_wherever_that_is() -> None:
    data, _built = small_stream()
    end = data.index(b"\4" + be32(40))
    for length in [*range(4, 300), *range(300, end, 397), end - 1]:
        damage(data[:length])
    for length in range(end, len(data), 7):
        assert "no proper end" in damage(data[:length])


def test_the_error_tells_where() -> None:
    data, _built = small_stream()
    at = data.index(page_of(3)) - 8
    broken = data[:at] + be64(3 * PAGE | 0x80) + data[at + 8 :]
    assert f"{at:,}: a record has unknown flags, 0x80" in damage(broken)


def with_list(size: int, listed: bytes) -> bytes:
    """A stream with such a list of blocks."""
    built = MigrationBuilder({})
    built.begin_memory()
    built.out[-8:] = be64(size | 4)
    return bytes(built.out) + listed + be64(0x10) + bytes(5000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (with_list(0, b""), "memory of 0 bytes"),
        (with_list(1 << 60, text(RAM) + be64(1 << 60)), "is not possible"),
        (with_list(2 * MAXIMUM_VOLUME_SIZE, text(RAM) + be64(PAGE)), "is not possible"),
        (with_list(PAGE, text(RAM) + be64(1 << 60)), "no block of memory is listed"),
        (with_list(PAGE, text(RAM) + be64(100)), "no block of memory is listed"),
        (with_list(PAGE, text("") + be64(PAGE)), "no block of memory is listed"),
        (with_list(PAGE, text("a\nb") + be64(PAGE)), "no block of memory is listed"),
        (with_list(2 * PAGE, (text(RAM) + be64(PAGE)) * 2), "listed twice"),
        (with_list(PAGE, text(RAM) + be64(0)), "does not go on"),
        (with_list(PAGE, text(RAM) + be64(PAGE) + bytes(24)), "does not go on"),
        (with_list(8, b""), "does not begin with its size"),
    ],
)
def test_lists_of_blocks_that_lie(data: bytes, said: str) -> None:
    line = damage(data)
    assert said in line


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (be64(0x28) + page_of(1), "not listed"),
        (be64(8) + text("vga.vram") + page_of(1), "not listed"),
        (be64(64 * PAGE | 8) + text(RAM) + page_of(1), "a page is at 262,144 of the block pc.ram"),
        (be64(1 << 63 | 8) + text(RAM) + page_of(1), "a page is at"),
        (be64(1024 | 8) + text(RAM) + page_of(1) + be64(0x10), "a page is at 1,024"),
        (be64(0x100) + text(RAM) + be32(1 << 31), "is compressed into"),
        (be64(0x100) + text(RAM) + be32(8) + b"no zlib!", "no zlib stream"),
        (be64(0x40) + text(RAM) + b"\2\0\1x", "unknown form"),
        (be64(4), "unknown flags, 0x4"),
        (be64(0x0A) + text(RAM) + b"\0", "unknown flags, 0xa"),
    ],
)
def test_records_that_lie(record: bytes, said: str) -> None:
    built = begun()
    built.part()
    assert said in damage(bytes(built.out) + record + bytes(3 * PAGE))


def test_a_compressed_page_never_becomes_more_than_one() -> None:
    import zlib

    for content in (bytes(100), bytes(PAGE - 1), bytes(PAGE + 1), bytes(64 << 20)):
        packed = zlib.compress(content, 9)
        built = begun()
        built.part()
        record = be64(0x100) + text(RAM) + be32(len(packed)) + packed
        said = damage(bytes(built.out) + record + bytes(100))
        assert "compressed" in said


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_streams_are_never_rebuilt_differently(data: st.DataObject) -> None:
    original, _built = small_stream()
    broken = bytearray(original)
    # Structure lies between the pages: most flips go there.
    heads = [0, 60, 120, 180, 20 * (PAGE + 8), len(original) - 600]
    for _ in range(data.draw(st.integers(1, 4))):
        near = data.draw(st.sampled_from(heads)) + data.draw(st.integers(0, 500))
        far = data.draw(st.integers(0, len(original) - 1))
        at = data.draw(st.sampled_from([near % len(original), far]))
        broken[at] = data.draw(st.integers(0, 255))
    survives(migration.FORMAT, bytes(broken), data.draw(st.sampled_from([1 << 20, 1, 5000])))


@given(st.binary(max_size=3000))
@settings(max_examples=300, deadline=None)
def test_anything_behind_the_magic(data: bytes) -> None:
    survives(migration.FORMAT, b"QEVM\0\0\0\3" + data)
    built = MigrationBuilder(BLOCKS)
    built.begin_memory()
    survives(migration.FORMAT, bytes(built.out) + data)
    built.list_blocks()
    survives(migration.FORMAT, bytes(built.out) + be64(0x10) + data)


def test_memory_for_a_large_guest_is_bounded() -> None:
    pages = 1 << 18  # a gigabyte, most of it zeros
    page = os.urandom(PAGE)
    head = bytes(begun({RAM: pages * PAGE}).out)

    def stream() -> Iterator[bytes]:
        yield head + b"\2" + be32(2)
        yield be64(2) + text(RAM) + b"\0"
        for start in range(1, pages, 1 << 14):
            numbers = range(start, min(start + (1 << 14), pages))
            yield b"".join(struct.pack(">QB", number * PAGE | 0x22, 0) for number in numbers)
        for start in range(0, 1 << 14, 256):
            yield b"".join(
                be64(number * PAGE | 0x28) + page for number in range(start, start + 256)
            )
        rest = begun()
        rest.out.clear()
        rest.end_records()
        yield ended(rest)

    tracemalloc.start()
    try:
        migration.FORMAT.read(Source(stream()), SilentAssembly())
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
