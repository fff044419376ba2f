"""Images read in large pieces, with and without a thread that reads ahead."""

import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest

from difffs.errors import EnvironmentProblem, UsageError
from difffs.image import BATCH_BYTES, ImageReader
from difffs.page import PAGE_SIZE


def pieces(
    path: Path | int, *, ahead: bool = False, skip: int = 0
) -> tuple[list[tuple[int, bytes]], ImageReader]:
    """All batches of a file, or of a descriptor that the reader takes over."""
    file = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
    with closing(ImageReader(file, "image", ahead=ahead, skip=skip)) as reader:
        return [(offset, bytes(data)) for offset, data in reader.batches()], reader


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    "size", [0, 1, PAGE_SIZE, BATCH_BYTES, 2 * BATCH_BYTES + 3 * PAGE_SIZE + 5]
)
def test_a_file_is_read_whole(tmp_path: Path, size: int, ahead: bool) -> None:
    path = tmp_path / "image"
    content = os.urandom(1 << 20) * (size // (1 << 20) + 1)
    path.write_bytes(content[:size])
    found, reader = pieces(path, ahead=ahead)
    assert (reader.size, reader.grown) == (size, 0)
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
    found = dict(pieces(path, ahead=ahead)[0])
    rebuilt = bytearray(30 << 20)
    for offset, data in found.items():
        assert offset % PAGE_SIZE == 0
        rebuilt[offset : offset + len(data)] = data
    assert rebuilt == path.read_bytes()
    if os.stat(path).st_blocks * 512 < 10 << 20:  # else the file system keeps no holes
        assert sum(map(len, found.values())) < 10 << 20
    descriptor = os.open(path, os.O_RDONLY)
    with closing(ImageReader(descriptor, "image", ahead=ahead, holes=True)) as reader:
        assert b"".join(bytes(data) for _offset, data in reader.batches()) == rebuilt


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("rest", [0, 100, BATCH_BYTES + PAGE_SIZE + 1])
@pytest.mark.parametrize("hole", [False, True])
def test_a_file_that_shrinks_while_it_is_read_is_an_error(
    tmp_path: Path, rest: int, ahead: bool, hole: bool
) -> None:
    """Also where what is cut off is a hole, which nobody reads."""
    path = tmp_path / "image"
    path.write_bytes(b"z" * (2 * BATCH_BYTES))
    size = 4 * BATCH_BYTES
    if hole:
        os.truncate(path, size)
    else:
        path.write_bytes(b"z" * size)
    with closing(ImageReader.open(str(path), ahead=ahead)) as reader:
        batches = reader.batches()
        next(batches)
        os.truncate(path, rest)
        with pytest.raises(EnvironmentProblem, match=f"image .*ended after .* of {size:,} bytes"):
            list(batches)


def test_a_file_whose_size_lies_is_an_error() -> None:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.exists():
        pytest.skip("no such file in /sys, which says that it has 4,096 bytes")
    with pytest.raises(EnvironmentProblem, match=r"of 4,096 bytes"):
        pieces(path)


def test_a_file_without_a_size_is_read_to_its_end() -> None:
    content = Path("/proc/version").read_bytes()
    found, reader = pieces(Path("/proc/version"))
    assert found == [(0, content)]
    assert reader.size == len(content)
    assert pieces(Path("/proc/version"), skip=6)[0] == [(0, content[6:])]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("hole", [0, 3 * PAGE_SIZE + 1])
def test_of_a_file_that_grows_what_it_had_is_read(tmp_path: Path, ahead: bool, hole: int) -> None:
    path = tmp_path / "image"
    content = os.urandom(PAGE_SIZE + 100)
    path.write_bytes(content)
    os.truncate(path, len(content) + hole)
    with closing(ImageReader.open(str(path), ahead=ahead)) as reader:
        with path.open("ab") as file:
            file.write(b"more" * PAGE_SIZE)
        rebuilt = bytearray(len(content) + hole)
        for offset, data in reader.batches():
            rebuilt[offset : offset + len(data)] = data
        assert rebuilt == content + bytes(hole)
        assert (reader.size, reader.grown) == (len(rebuilt), 4 * PAGE_SIZE)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("position", [1, PAGE_SIZE, PAGE_SIZE + 17, 3 << 20])
@pytest.mark.parametrize("skip", [0, 1000])
def test_a_file_is_read_from_where_it_stands(
    tmp_path: Path, position: int, ahead: bool, skip: int
) -> None:
    path = tmp_path / "image"
    with path.open("wb") as stream:  # data, hole, data
        stream.write(os.urandom(2 << 20))
        stream.seek(10 << 20)
        stream.write(os.urandom(BATCH_BYTES))
    content = path.read_bytes()[position + skip :]
    file = os.open(path, os.O_RDONLY)
    try:
        os.lseek(file, position, os.SEEK_SET)
        found, reader = pieces(os.dup(file), ahead=ahead, skip=skip)
        assert os.lseek(file, 0, os.SEEK_CUR) == os.stat(path).st_size
    finally:
        os.close(file)
    assert reader.size == len(content)
    rebuilt = bytearray(len(content))
    for offset, data in found:
        assert offset % PAGE_SIZE == 0
        rebuilt[offset : offset + len(data)] = data
    assert rebuilt == content


def test_behind_the_end_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 10)
    file = os.open(path, os.O_RDONLY)
    os.lseek(file, 100, os.SEEK_SET)
    found, reader = pieces(file)
    assert (found, reader.size) == ([], 0)
    assert pieces(path, skip=10)[0] == []


def full_pipe(content: bytes) -> int:
    """The end to read from of a pipe that has content and no writer any more."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader


def test_more_than_there_is_cannot_be_skipped(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 10)
    with pytest.raises(UsageError, match=r"has 10 bytes, and --skip leaves out 11"):
        ImageReader.open(str(path), skip=11)
    file = full_pipe(b"x" * 10)
    with pytest.raises(UsageError, match=r"has 10 bytes, and --skip leaves out 11"):
        ImageReader(file, "image", skip=11)
    os.close(file)
    assert pieces(full_pipe(b"x" * 10), skip=10)[0] == []
    assert pieces(full_pipe(b"x" * 10 + b"y"), skip=10)[0] == [(0, b"y")]


def test_what_is_only_for_writing_is_refused() -> None:
    file = os.open(os.devnull, os.O_WRONLY)
    with pytest.raises(UsageError, match="not open for reading"):
        ImageReader(file, "image")
    os.close(file)


def test_a_reading_that_waits_for_a_writer_can_be_interrupted() -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    reader, writer = os.pipe()
    os.write(writer, b"x")
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with closing(ImageReader(reader, "image", ahead=True)) as image, pytest.raises(Stop):
            list(image.batches())
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(writer)


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
    found, image = pieces(read, ahead=ahead)
    feeder.join()
    assert found == [(0, content)]
    assert image.size == len(content)
