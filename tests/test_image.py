"""Images read in large pieces, with and without a thread that reads ahead."""

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from difffs.image import BATCH_BYTES, ImageReader
from difffs.page import PAGE_SIZE


def pieces(file: int, size: int, *, ahead: bool) -> list[tuple[int, bytes]]:
    with closing(ImageReader(file, size, ahead=ahead)) as reader:
        return [(offset, bytes(data)) for offset, data in reader.batches()]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    "size", [0, 1, PAGE_SIZE, BATCH_BYTES, 2 * BATCH_BYTES + 3 * PAGE_SIZE + 5]
)
def test_a_file_is_read_whole(tmp_path: Path, size: int, ahead: bool) -> None:
    path = tmp_path / "image"
    content = os.urandom(1 << 20) * (size // (1 << 20) + 1)
    path.write_bytes(content[:size])
    found = pieces(os.open(path, os.O_RDONLY), size, ahead=ahead)
    assert b"".join(data for _offset, data in found) == content[:size]
    assert [offset for offset, _data in found] == list(range(0, size, BATCH_BYTES))


@pytest.mark.parametrize("ahead", [False, True])
def test_holes_are_left_out(tmp_path: Path, ahead: bool) -> None:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.seek(3 << 20)
        file.write(b"x" * PAGE_SIZE)
        file.truncate(30 << 20)
        file.seek(20 << 20)
        file.write(b"y" * PAGE_SIZE)
    found = dict(pieces(os.open(path, os.O_RDONLY), 30 << 20, ahead=ahead))
    rebuilt = bytearray(30 << 20)
    for offset, data in found.items():
        assert offset % PAGE_SIZE == 0
        rebuilt[offset : offset + len(data)] = data
    assert rebuilt == path.read_bytes()
    if os.stat(path).st_blocks * 512 < 10 << 20:  # else the file system keeps no holes
        assert sum(map(len, found.values())) < 10 << 20


@pytest.mark.parametrize("ahead", [False, True])
def test_a_file_that_shrinks_while_it_is_read_ends(tmp_path: Path, ahead: bool) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"z" * (PAGE_SIZE + 100))
    found = pieces(os.open(path, os.O_RDONLY), 10 * PAGE_SIZE, ahead=ahead)
    assert found == [(0, b"z" * (PAGE_SIZE + 100))]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_pipe_comes_in_whole_pages(ahead: bool) -> None:
    read, write = os.pipe()
    content = os.urandom(5 * PAGE_SIZE + 17)

    def feed() -> None:
        for start in range(0, len(content), 1000):
            os.write(write, content[start : start + 1000])
        os.close(write)

    feeder = threading.Thread(target=feed)
    feeder.start()
    found = pieces(read, 0, ahead=ahead)
    feeder.join()
    assert found == [(0, content)]
