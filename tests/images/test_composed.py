"""Files made up of a skeleton and memory: damaged layouts are told, within bounds."""

import struct

import pytest

from difffs.errors import CorruptStore
from difffs.images.composed import ComposedFile
from difffs.images.layout import Kind, Layout, Row, Volume, pack_row
from difffs.page import PAGE_SIZE

SKELETON = struct.pack("<4H", 21, 22, 23, 24) * 1024
MOST_READ = 2 << 20


def read_part(content: bytes, offset: int, out: memoryview) -> None:
    assert len(out) <= MOST_READ
    assert offset >= 0
    out[:] = content[offset : offset + len(out)].ljust(len(out), b"\0")


def file_of(rows: list[Row], size: int, inner: ComposedFile | None = None) -> ComposedFile:
    """The file that these rows make up, which lie in the skeleton's third page."""
    content = SKELETON[: 2 * PAGE_SIZE] + b"".join(map(pack_row, rows))

    def skeleton(offset: int, out: memoryview) -> None:
        read_part(content, offset, out)

    def memory(offset: int, out: memoryview) -> None:
        read_part(b"memory" * 4000, offset, out)

    return ComposedFile(Layout(len(rows), size, [(2, 1)], skeleton), skeleton, memory, inner)


def read(file: ComposedFile, offset: int = 0, count: int = 5000) -> bytes:
    out = memoryview(bytearray(count))
    return bytes(out[: file.read_into(offset, out)])


@pytest.mark.parametrize(
    ("row", "size"),
    [
        (Row(0, Kind.COPY, 33, 0, 100), 100),
        (Row(0, Kind.COPY, Volume.MEMORY, 0, 99), 100),
        (Row(5, Kind.ZEROS, 0, 0, 100), 100),
        (Row(0, Kind.PAGE_RECORDS, 9, 0, 0, 1), 4104),
        (Row(0, Kind.PAGE_RECORDS, Volume.MEMORY, 0, (1 << 64) - 1, 1), 4104),
        (Row(0, Kind.ZERO_RECORDS, 0, 0, (1 << 64) - PAGE_SIZE, 2), 18),
        (Row(0, Kind.ZERO_RECORDS, 0, 0, 0, 3), 18),
        (Row(0, Kind.PACKED_ZLIB_1, Volume.MEMORY, 0, 0, (1 << 32) - 1), 1 << 40),
        (Row(0, Kind.PACKED_ZLIB_1, Volume.MEMORY, 0, 8 * PAGE_SIZE, 9), 100),
        (Row(0, Kind.PACKED_ZLIB_1, Volume.MEMORY, 0, 0, 0), 100),
        (Row(0, Kind.DESCRIPTORS, 1, 0, 0, (1 << 32) - 1), 24 * ((1 << 32) - 1)),
        (Row(0, Kind.DESCRIPTORS, 1, (1 << 64) - 30, 0, 3), 72),
        (Row(0, Kind.REPEATED, 0, 0, 0, 7), 100),
        (Row(0, Kind.REPEATED, 0, 0, 1 << 60, 1), 1 << 60),
        (Row(0, Kind.INNER, 0, 0, 100), 100),
        (Row(0, Kind.INNER_RECORD, 0, 0, 84), 100),
        (Row(0, 77), 100),
    ],
)
def test_rows_that_cannot_be(row: Row, size: int) -> None:
    file = file_of([row], size)
    for offset in (0, size // 2, size - 1):
        with pytest.raises(CorruptStore):
            read(file, offset)
    file.hole(0)


def test_rows_in_no_order() -> None:
    rows = [Row(at, Kind.ZEROS, 0, 0, length) for at, length in ((0, 30), (30, 10), (10, 10))]
    file = file_of(rows, 40)
    with pytest.raises(CorruptStore, match="neighbours"):
        read(file)


def test_packed_pages_that_are_shorter_than_their_row() -> None:
    from difffs.images.layout import packed_zlib

    size = len(packed_zlib((b"memory" * 4000)[:PAGE_SIZE]))
    sizes = struct.pack("<H", size)
    content = sizes.ljust(2 * PAGE_SIZE, b"\0")
    row = Row(0, Kind.PACKED_ZLIB_1, Volume.MEMORY, 0, 0, 1)

    def skeleton(offset: int, out: memoryview) -> None:
        read_part(content + pack_row(row), offset, out)

    def memory(offset: int, out: memoryview) -> None:
        read_part(b"memory" * 4000, offset, out)

    def file(length: int) -> ComposedFile:
        return ComposedFile(Layout(1, length, [(2, 1)], skeleton), skeleton, memory)

    assert len(read(file(size))) == size
    with pytest.raises(CorruptStore, match="shorter"):
        read(file(size + 1))


@pytest.mark.parametrize(("count", "size"), [(0, 1), (-1, 0), (1, -1)])
def test_layouts_of_nothing(count: int, size: int) -> None:
    with pytest.raises(CorruptStore):
        Layout(count, size, [], lambda _offset, _out: None)


def test_more_rows_than_there_are_pages_for() -> None:
    layout = Layout(1000, 1000, [(0, 1), (1, 1)], lambda _offset, _out: None)
    with pytest.raises(CorruptStore, match="ends early"):
        layout.row(999)


def test_an_inner_file_that_is_too_short() -> None:
    inner = file_of([Row(0, Kind.ZEROS, 0, 0, 10)], 10)
    file = file_of([Row(0, Kind.INNER, 0, 5, 6)], 6, inner)
    assert read(file, 0, 5) == bytes(5)
    with pytest.raises(CorruptStore, match="inner file's end"):
        read(file)
    # An inner file has no inner file.
    inner = file_of([Row(0, Kind.INNER, 0, 0, 10)], 10)
    with pytest.raises(CorruptStore, match="inner file"):
        read(file_of([Row(0, Kind.INNER, 0, 0, 6)], 6, inner))
