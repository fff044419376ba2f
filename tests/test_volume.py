"""Volumes: bytes in and out, the write buffer, and what may happen while a batch is routed."""

import errno
import os
import shutil
import threading
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs import volume as volume_module
from difffs.engine import Engine
from difffs.errors import CorruptStore, DifffsError, StoreFull, StoreReadOnly
from difffs.page import MAXIMUM_VOLUME_SIZE
from difffs.store import Store
from difffs.store.payloads import PayloadFile
from difffs.store.reserve import Reserve
from difffs.volume import Volumes
from tests.pages import compressible_page, guest_memory
from tests.stores import new_file, open_volumes, scratch

PAGE = 4096
TIB = 1 << 40
SMALL_BUFFER = 4 << 20
SECONDS = 30
"""Nothing here takes that long; a test that waits longer has found a deadlock."""


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    with open_volumes(tmp_path / "store", buffer_bytes=SMALL_BUFFER) as opened:
        yield opened


def read_all(volumes: Volumes, inode: int) -> bytes:
    return volumes.read(inode, 0, volumes.namespace.get(inode).size)


# -- bytes ---------------------------------------------------------------------------------------


def test_a_new_volume_is_empty(volumes: Volumes) -> None:
    inode = new_file(volumes)
    assert volumes.read(inode, 0, 100) == b""
    assert volumes.data_pages(inode) == 0


def test_reads_are_clipped_to_the_size(volumes: Volumes) -> None:
    inode = new_file(volumes)
    assert volumes.write(inode, 10, b"hello") == 5
    assert volumes.read(inode, 0, 1 << 20) == bytes(10) + b"hello"
    assert volumes.read(inode, 12, 2) == b"ll"
    assert volumes.read(inode, 15, 1) == b""
    assert volumes.read(inode, TIB, 1) == b""
    volumes.flush()
    assert volumes.read(inode, 0, 1 << 20) == bytes(10) + b"hello"


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, 5000, 3 * PAGE - 1])
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * PAGE])
def test_writes_at_any_place(volumes: Volumes, offset: int, size: int, flush: bool) -> None:
    inode = new_file(volumes)
    model = bytearray(guest_memory(1, 6))
    volumes.write(inode, 0, bytes(model))
    if flush:
        volumes.flush()
    data = Random(2).randbytes(size)
    volumes.write(inode, offset, memoryview(data))
    model[offset : offset + size] = data
    assert read_all(volumes, inode) == model
    volumes.flush()
    assert read_all(volumes, inode) == model


def test_nothing_written_is_nothing_changed(volumes: Volumes) -> None:
    inode = new_file(volumes)
    assert volumes.write(inode, 1000, b"") == 0
    assert volumes.namespace.get(inode).size == 0


def test_writing_sets_size_and_times(volumes: Volumes) -> None:
    inode = new_file(volumes)
    record = volumes.namespace.get(inode)
    record.mtime_ns = record.ctime_ns = 0
    before = time.clock_gettime_ns(5)  # CLOCK_REALTIME_COARSE, as the kernel sets times
    volumes.write(inode, 5, b"x")
    assert (record.size, record.mtime_ns >= before, record.ctime_ns >= before) == (6, True, True)
    record.mtime_ns = 0
    volumes.write(inode, 0, b"x")
    assert (record.size, record.mtime_ns >= before) == (6, True)


def test_volumes_end_at_16_tib(volumes: Volumes) -> None:
    inode = new_file(volumes)
    end = MAXIMUM_VOLUME_SIZE
    volumes.write(inode, end - 5, b"12345")
    assert volumes.namespace.get(inode).size == end
    volumes.write(inode, 0, b"first")
    for is_buffered in (True, False):
        assert volumes.read(inode, end - 7, 100) == b"\0\x0012345"
        assert volumes.seek_data(inode, PAGE) == end - PAGE
        assert volumes.seek_hole(inode, 0) == PAGE
        if is_buffered:
            volumes.flush()
    assert volumes.data_pages(inode) == 2
    for call in (
        lambda: volumes.write(inode, end - 4, b"12345"),
        lambda: volumes.truncate(inode, end + 1),
        lambda: volumes.allocate(inode, end, 1),
    ):
        with pytest.raises(OSError, match="at most 16 TiB") as caught:
            call()
        assert caught.value.errno == errno.EFBIG
    volumes.truncate(inode, 0)


def test_unknown_volumes(volumes: Volumes) -> None:
    for call in (
        lambda: volumes.read(77, 0, 1),
        lambda: volumes.write(77, 0, b"x"),
        lambda: volumes.truncate(77, 0),
        lambda: volumes.punch(77, 0, 1),
        lambda: volumes.allocate(77, 0, 1),
        lambda: volumes.seek_data(77, 0),
        lambda: volumes.seek_hole(77, 0),
    ):
        with pytest.raises(FileNotFoundError):
            call()


# -- sizes and holes -----------------------------------------------------------------------------


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 9 * PAGE + 5])
def test_what_truncate_cuts_off_is_zeros_when_it_grows_again(
    volumes: Volumes, size: int, flush: bool
) -> None:
    inode = new_file(volumes)
    image = Random(1).randbytes(10 * PAGE)
    volumes.write(inode, 0, image)
    if flush:
        volumes.flush()
    volumes.truncate(inode, size)
    assert read_all(volumes, inode) == image[:size]
    volumes.truncate(inode, 11 * PAGE)
    expected = image[:size] + bytes(11 * PAGE - size)
    assert read_all(volumes, inode) == expected
    volumes.flush()
    assert read_all(volumes, inode) == expected
    assert volumes.data_pages(inode) == -(-size // PAGE)


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, PAGE), (1, PAGE - 2), (1, PAGE - 1), (100, 2 * PAGE), (PAGE, 3 * PAGE), (0, 1 << 50)],
)
def test_punching(volumes: Volumes, offset: int, length: int, flush: bool) -> None:
    inode = new_file(volumes)
    image = bytearray(Random(1).randbytes(6 * PAGE - 7))
    volumes.write(inode, 0, bytes(image))
    if flush:
        volumes.flush()
    volumes.punch(inode, offset, length)
    end = min(offset + length, len(image))
    image[offset:end] = bytes(end - offset)
    assert read_all(volumes, inode) == image
    volumes.flush()
    assert read_all(volumes, inode) == image
    whole = 6 if length > TIB else max(0, (offset + length) // PAGE - -(-offset // PAGE))
    assert volumes.data_pages(inode) == 6 - whole


def test_punching_behind_the_end_changes_nothing(volumes: Volumes) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, b"x" * 100)
    volumes.punch(inode, PAGE, PAGE)
    volumes.punch(inode, 100, 5)
    assert read_all(volumes, inode) == b"x" * 100


def test_punched_pages_give_their_objects_back(volumes: Volumes) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, Random(1).randbytes(100 * PAGE))
    volumes.flush()
    assert volumes.store.object_count() == 100
    volumes.punch(inode, 0, 100 * PAGE)
    volumes.flush()
    assert volumes.store.object_count() == 0
    assert volumes.store.occupancy().slack == 0


def test_allocating_grows_and_maps_nothing(volumes: Volumes) -> None:
    inode = new_file(volumes)
    volumes.allocate(inode, 100, 900)
    assert volumes.namespace.get(inode).size == 1000
    volumes.allocate(inode, 0, 10)
    assert volumes.namespace.get(inode).size == 1000
    volumes.flush()
    assert volumes.data_pages(inode) == 0
    assert read_all(volumes, inode) == bytes(1000)


def test_data_and_holes(volumes: Volumes) -> None:
    inode = new_file(volumes)
    volumes.truncate(inode, 5000 * PAGE + 100)
    volumes.write(inode, 10 * PAGE + 7, b"x")
    volumes.write(inode, 3000 * PAGE, Random(1).randbytes(2 * PAGE))
    volumes.write(inode, 5000 * PAGE, b"x" * 100)
    size = 5000 * PAGE + 100
    for _ in range(2):
        assert volumes.seek_data(inode, 0) == 10 * PAGE
        assert volumes.seek_data(inode, 10 * PAGE + 3) == 10 * PAGE + 3
        assert volumes.seek_hole(inode, 0) == 0
        assert volumes.seek_hole(inode, 10 * PAGE + 3) == 11 * PAGE
        assert volumes.seek_data(inode, 11 * PAGE) == 3000 * PAGE
        assert volumes.seek_hole(inode, 3000 * PAGE) == 3002 * PAGE
        assert volumes.seek_data(inode, 3002 * PAGE) == 5000 * PAGE
        assert volumes.seek_hole(inode, 5000 * PAGE + 50) == size
        for call in (volumes.seek_data, volumes.seek_hole):
            with pytest.raises(OSError, match="behind") as caught:
                call(inode, size)
            assert caught.value.errno == errno.ENXIO
        volumes.flush()
    volumes.punch(inode, 5000 * PAGE, PAGE)
    with pytest.raises(OSError, match="no data"):
        volumes.seek_data(inode, 3002 * PAGE)


def test_pages_of_zeros_are_data(volumes: Volumes) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, bytes(3 * PAGE))
    volumes.flush()
    assert volumes.data_pages(inode) == 3
    assert volumes.store.page_counts()["zero"] == 3
    assert volumes.seek_hole(inode, 0) == 3 * PAGE


# -- removal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flush", [False, True])
def test_removing_frees_everything(volumes: Volumes, flush: bool) -> None:
    kept, gone = new_file(volumes, "kept"), new_file(volumes, "gone")
    image = guest_memory(1, 200)
    volumes.write(kept, 0, image[: 100 * PAGE])
    volumes.write(gone, 0, image)
    if flush:
        volumes.flush()
    with volumes.lock:
        volumes.namespace.unlink("/gone")
    assert volumes.read(gone, 0, len(image)) == image, "unlinked, but still there"
    volumes.remove(gone)
    with pytest.raises(FileNotFoundError):
        volumes.read(gone, 0, 1)
    volumes.flush()
    assert volumes.write_buffer_bytes == 0
    assert volumes.store.page_counts()["total"] == 100
    assert read_all(volumes, kept) == image[: 100 * PAGE]


def test_orphans_of_a_crash_are_removed(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s") as volumes:
        inode = new_file(volumes)
        volumes.write(inode, 0, guest_memory(1, 50))
        with volumes.lock:
            volumes.namespace.unlink("/a")
        volumes.flush()
    with open_volumes(tmp_path / "s") as volumes:
        assert volumes.namespace.orphans() == []
        volumes.flush()
        assert volumes.store.page_counts()["total"] == 0


# -- the buffer ----------------------------------------------------------------------------------


def test_a_page_rewritten_in_the_buffer_is_encoded_once(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s", quiet_seconds=SECONDS) as volumes:
        inode = new_file(volumes)
        random = Random(1)
        for _ in range(500):
            page = compressible_page(random)
            volumes.write(inode, 0, page)
        assert volumes.write_buffer_bytes == PAGE
        volumes.flush()
        routed = sum(values[0] for values in volumes.store.counters.values())
        assert routed == 1
        assert volumes.read(inode, 0, PAGE) == page
        assert volumes.write_buffer_bytes == 0


def test_quiet_pages_are_routed_and_committed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_module, "COMMIT_SECONDS", 0.3)
    image = guest_memory(1, 40)
    with open_volumes(tmp_path / "s", quiet_seconds=0.1) as volumes:
        inode = new_file(volumes)
        volumes.write(inode, 0, image)
        _wait_until(lambda: volumes.write_buffer_bytes == 0)
        _wait_until(lambda: volumes.store.uncommitted == 0)
        _assert_in_copy(tmp_path, inode, image)


def _wait_until(condition: "object", seconds: float = SECONDS) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "too slow"
        time.sleep(0.01)


def _assert_in_copy(folder: Path, inode: int, image: bytes) -> None:
    """What a machine would find that lost its power now."""
    copy = folder / "copy"
    shutil.copytree(folder / "s", copy)
    with Store.open(copy) as store:
        assert [str(finding) for finding in store.check()] == []
        out = bytearray(len(image))
        store.read_pages(inode, 0, len(image) // PAGE, out)
        equal = out == image  # a failed comparison of so many bytes would be explained for minutes
        assert equal
        assert store.namespace.get(inode).size == len(image)
    shutil.rmtree(copy)


def test_what_was_flushed_is_on_disk(tmp_path: Path) -> None:
    image = guest_memory(1, 300)
    with open_volumes(tmp_path / "s") as volumes:
        inode = new_file(volumes)
        volumes.write(inode, 0, image)
        volumes.flush()
        _assert_in_copy(tmp_path, inode, image)
        volumes.write(inode, 0, image[::-1])
        volumes.flush()
        _assert_in_copy(tmp_path, inode, image[::-1])


def test_more_than_the_buffer_holds(tmp_path: Path) -> None:
    image = guest_memory(1, 4000)
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER, quiet_seconds=100) as volumes:
        assert volumes.buffer_bytes == SMALL_BUFFER
        inode = new_file(volumes)
        for at in range(0, len(image), 1 << 20):
            volumes.write(inode, at, image[at : at + (1 << 20)])
            assert volumes.write_buffer_bytes <= SMALL_BUFFER
        assert read_all(volumes, inode) == image
        volumes.flush()
        assert read_all(volumes, inode) == image


def test_flush_returns_although_others_go_on_writing(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        busy, mine = new_file(volumes, "busy"), new_file(volumes, "mine")
        image = guest_memory(1, 2048)
        stop = threading.Event()

        def write() -> None:
            at = 0
            while not stop.is_set():
                volumes.write(busy, at * PAGE, image[at * PAGE : (at + 64) * PAGE])
                at = (at + 64) % 2048

        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            for count in range(1, 4):
                volumes.write(mine, 0, bytes([count]) * 100)
                before = time.monotonic()
                volumes.flush()
                assert time.monotonic() - before < 5
        finally:
            stop.set()
            for writer in writers:
                writer.join(SECONDS)


def test_flush_of_a_page_that_is_being_rewritten_all_the_time(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                volumes.write(inode, 0, number.to_bytes(8, "little") * 512)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            _wait_until(lambda: volumes.namespace.get(inode).size > 0)
            for _ in range(5):
                before = int.from_bytes(volumes.read(inode, 0, 8), "little")
                volumes.flush()
                out = bytearray(PAGE)
                volumes.store.read_pages(inode, 0, 1, out)
                assert int.from_bytes(out[:8], "little") >= before
        finally:
            stop.set()
            writer.join(SECONDS)


def test_closing_twice_and_flushing_after_it(tmp_path: Path) -> None:
    with Store.create(tmp_path / "s") as store, Engine(store) as engine:
        volumes = Volumes(engine)
        inode = new_file(volumes)
        volumes.write(inode, 0, b"x")
        volumes.close()
        volumes.close()
        assert volumes.read(inode, 0, 1) == b"x"
        with pytest.raises(CorruptStore, match="has stopped"):
            volumes.flush()


# -- while a batch is being routed ---------------------------------------------------------------


class Gate:
    """Holds the routing thread between taking a batch and mapping it."""

    def __init__(self, volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        route = volumes.engine.route

        def gated(pages: memoryview | bytearray | bytes, *, domain: int) -> "array[int]":
            self.entered.set()
            assert self.open.wait(SECONDS)
            return route(pages, domain=domain)

        monkeypatch.setattr(volumes.engine, "route", gated)


@contextmanager
def held(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything buffered is on its way through the router inside, and mapped afterwards."""
    gate = Gate(volumes, monkeypatch)
    flusher = threading.Thread(target=volumes.flush)
    flusher.start()
    try:
        assert gate.entered.wait(SECONDS)
        yield
    finally:
        gate.open.set()
        flusher.join(SECONDS)
        monkeypatch.undo()
    assert not flusher.is_alive()
    volumes.flush()
    assert volumes.write_buffer_bytes == 0, "no slot of the buffer is lost"
    assert [str(finding) for finding in volumes.store.check()] == []


@pytest.fixture
def image() -> bytes:
    return Random(9).randbytes(20 * PAGE)


def test_reading_what_is_being_routed(
    volumes: Volumes, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, image)
    with held(volumes, monkeypatch):
        assert read_all(volumes, inode) == image
        assert volumes.seek_data(inode, 0) == 0
        assert volumes.seek_hole(inode, 0) == len(image)
    assert read_all(volumes, inode) == image


@pytest.mark.parametrize("size", [1, 100, PAGE, 3 * PAGE])
@pytest.mark.parametrize("offset", [0, 50, PAGE])
def test_writing_what_is_being_routed(
    volumes: Volumes, image: bytes, offset: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, image)
    expected = image[:offset] + b"n" * size + image[offset + size :]
    with held(volumes, monkeypatch):
        volumes.write(inode, offset, b"n" * size)
        assert read_all(volumes, inode) == expected
    assert read_all(volumes, inode) == expected


def test_truncating_what_is_being_routed(
    volumes: Volumes, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, image)
    expected = image[: 5 * PAGE + 10] + bytes(10 * PAGE - 10)
    with held(volumes, monkeypatch):
        volumes.truncate(inode, 5 * PAGE + 10)
        assert read_all(volumes, inode) == expected[: 5 * PAGE + 10]
    volumes.truncate(inode, 15 * PAGE)
    assert read_all(volumes, inode) == expected
    assert volumes.data_pages(inode) == 6


@pytest.mark.expected_log("writing has stopped")
@pytest.mark.parametrize("way", ["truncate", "allocate", "write"])
def test_what_was_cut_off_never_comes_back(tmp_path: Path, way: str) -> None:
    """Whatever a commit between cutting and growing has saved, and whenever a crash comes."""
    with Store.create(tmp_path / "s") as store, Engine(store) as engine:
        volumes = Volumes(engine, quiet_seconds=3600)
        inode = new_file(volumes)
        volumes.write(inode, 0, b"S" * (2 * PAGE))
        volumes.flush()
        volumes.truncate(inode, PAGE + 1000)
        store.commit()  # as the routing thread does now and then, with the buffer as it is
        if way == "truncate":
            volumes.truncate(inode, 2 * PAGE)
        elif way == "allocate":
            volumes.allocate(inode, 0, 2 * PAGE)
        else:
            volumes.write(inode, 2 * PAGE - 1, b"x")
        store.commit()
        volumes.fail(CorruptStore("the crash"))
        with suppress(CorruptStore):
            volumes.close()
        store.abandon()
    with open_volumes(tmp_path / "s") as volumes:
        content = read_all(volumes, inode)
        assert content[: PAGE + 1000] == b"S" * (PAGE + 1000)
        assert b"S" not in content[PAGE + 1000 :]
        assert len(content) == 2 * PAGE


def test_growing_leaves_a_clean_tail_alone(volumes: Volumes) -> None:
    """No flush where there is nothing to clear."""
    inode = new_file(volumes)
    volumes.write(inode, 0, b"a" * 1000)
    asked = volumes._flush_asked
    volumes.write(inode, 2000, b"b")
    volumes.truncate(inode, 3 * PAGE)
    assert volumes._flush_asked == asked
    assert read_all(volumes, inode) == (b"a" * 1000 + bytes(1000) + b"b").ljust(3 * PAGE, b"\0")


def test_punching_what_is_being_routed(
    volumes: Volumes, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = new_file(volumes)
    volumes.write(inode, 0, image)
    expected = image[: 3 * PAGE - 1] + bytes(4 * PAGE + 1) + image[7 * PAGE :]
    with held(volumes, monkeypatch):
        volumes.punch(inode, 3 * PAGE - 1, 4 * PAGE + 1)
        volumes.write(inode, 4 * PAGE, b"again")
        assert volumes.seek_hole(inode, 0) == 3 * PAGE
    again = bytearray(expected)
    again[4 * PAGE : 4 * PAGE + 5] = b"again"
    assert read_all(volumes, inode) == again
    assert volumes.data_pages(inode) == 17


def test_removing_what_is_being_routed(
    volumes: Volumes, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode, other = new_file(volumes), new_file(volumes, "other")
    volumes.write(inode, 0, image)
    volumes.write(other, 0, image[: 3 * PAGE])
    with held(volumes, monkeypatch):
        with volumes.lock:
            volumes.namespace.unlink("/a")
        volumes.remove(inode)
    assert read_all(volumes, other) == image[: 3 * PAGE]
    assert volumes.store.object_count() == 3


def test_the_time_that_writes_wait_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        gate = Gate(volumes, monkeypatch)
        room = SMALL_BUFFER * 7 // 8
        volumes.write(inode, 0, Random(1).randbytes(room))
        assert volumes.waited_ns == 0
        writer = threading.Thread(target=volumes.write, args=(inode, room, bytes(PAGE)))
        writer.start()
        writer.join(0.01)
        assert writer.is_alive()
        gate.open.set()
        writer.join(SECONDS)
        assert 0 < volumes.waited_ns < SECONDS * 10**9


def test_a_volume_removed_under_a_write_that_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        outcome: list[BaseException] = []

        def write() -> None:
            try:
                volumes.write(inode, 0, Random(1).randbytes(2 * SMALL_BUFFER))
            except BaseException as error:
                outcome.append(error)

        gate = Gate(volumes, monkeypatch)
        writer = threading.Thread(target=write)
        writer.start()
        _wait_until(lambda: not volumes.pages.has_room(inode))
        with volumes.lock:
            volumes.namespace.unlink("/a")
        volumes.remove(inode)
        gate.open.set()
        writer.join(SECONDS)
        assert [type(error) for error in outcome] == [FileNotFoundError]
        volumes.flush()
        assert volumes.store.object_count() == 0
        assert volumes.write_buffer_bytes == 0


def test_truncation_under_a_write_that_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any order of the two would do; what must hold is that size and pages agree."""
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        data = Random(1).randbytes(2 * SMALL_BUFFER)
        gate = Gate(volumes, monkeypatch)
        writer = threading.Thread(target=volumes.write, args=(inode, 0, data))
        writer.start()
        _wait_until(lambda: not volumes.pages.has_room(inode))
        volumes.truncate(inode, PAGE)
        gate.open.set()
        writer.join(SECONDS)
        found = read_all(volumes, inode)
        assert len(found) == len(data)
        assert found[SMALL_BUFFER + (1 << 20) :] == data[SMALL_BUFFER + (1 << 20) :]


# -- a full disk and other surprises -------------------------------------------------------------


class Disk:
    """A payload file that takes so many bytes and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        write, discard = PayloadFile.write, PayloadFile.discard

        def limited(
            file: PayloadFile, extent: int, side: int, position: int, data: memoryview | bytes
        ) -> None:
            if len(data) > self.room:
                raise StoreFull("no space left for the test")
            self.room -= len(data)
            write(file, extent, side, position, data)

        def discarding(file: PayloadFile, extent: int, side: int) -> None:
            before = os.fstat(file.file).st_blocks
            discard(file, extent, side)
            self.room += 512 * (before - os.fstat(file.file).st_blocks)

        monkeypatch.setattr(PayloadFile, "write", limited)
        monkeypatch.setattr(PayloadFile, "discard", discarding)


@pytest.mark.expected_log("no space left for the test")
def test_a_full_disk_keeps_everything_readable_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        image, new = Random(1).randbytes(100 * PAGE), Random(3).randbytes(100 * PAGE)
        volumes.write(inode, 0, image)
        volumes.flush()
        disk = Disk(monkeypatch, room=300_000)
        volumes.write(inode, 100 * PAGE, new)
        for _ in range(3):
            with pytest.raises(StoreFull, match="no space left"):
                volumes.flush()
        assert read_all(volumes, inode) == image + new, "the buffer keeps what was written"
        assert volumes.failed is None
        more = Random(2).randbytes(PAGE)
        before = time.monotonic()
        written = 0
        with suppress(StoreFull):
            while written < 2 * SMALL_BUFFER:
                written += volumes.write(inode, volumes.namespace.get(inode).size, more)
        assert written < SMALL_BUFFER
        assert time.monotonic() - before < SECONDS
        expected = read_all(volumes, inode)
        assert expected[: 200 * PAGE] == image + new
        assert expected[200 * PAGE :] == more * ((len(expected) - 200 * PAGE) // PAGE)
        disk.room = 1 << 30
        volumes.flush()
        assert read_all(volumes, inode) == expected
        volumes.write(inode, 0, more)
        volumes.flush()
        assert volumes.write_buffer_bytes == 0


@pytest.mark.expected_log("no space left for the test")
def test_a_write_that_fails_half_way_leaves_no_pages_behind_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        disk = Disk(monkeypatch, room=0)
        data = Random(1).randbytes(2 * SMALL_BUFFER)
        with pytest.raises(StoreFull):
            volumes.write(inode, 0, data)
        size = volumes.namespace.get(inode).size
        assert size == SMALL_BUFFER * 7 // 8, "the rest is kept for others"
        disk.room = 1 << 30
        volumes.flush()
        assert [str(finding) for finding in volumes.store.check()] == []
        volumes.truncate(inode, 2 * size)
        assert read_all(volumes, inode) == data[:size] + bytes(size)


@pytest.mark.expected_log("no space left for the test")
@pytest.mark.parametrize("way", ["remove", "punch", "truncate"])
def test_what_is_given_up_on_a_full_disk_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER) as volumes:
        one, two = new_file(volumes, "one"), new_file(volumes, "two")
        image = Random(1).randbytes(600 * PAGE)
        volumes.write(one, 0, image)
        volumes.flush()
        Disk(monkeypatch, room=1000)
        volumes.write(two, 0, image[::-1])
        with pytest.raises(StoreFull):
            volumes.flush()
        if way == "remove":
            with volumes.lock:
                volumes.namespace.unlink("/one")
            volumes.remove(one)
        elif way == "punch":
            volumes.punch(one, 0, len(image))
        else:
            volumes.truncate(one, 0)
        volumes.flush()
        assert read_all(volumes, two) == image[::-1]


@pytest.mark.expected_log("no space left for the test")
def test_closing_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.create(tmp_path / "s")
    with Engine(store) as engine:
        volumes = Volumes(engine)
        inode = new_file(volumes)
        volumes.write(inode, 0, b"committed")
        volumes.flush()
        with monkeypatch.context() as patch:
            Disk(patch, room=0)
            volumes.write(inode, 0, Random(1).randbytes(PAGE))
            with pytest.raises(StoreFull):
                volumes.close()
        store.abandon()
    with Store.open(tmp_path / "s") as store:
        assert store.check() == []


@pytest.mark.expected_log("the routing thread ends|writing has stopped")
def test_a_surprise_stops_writing_but_not_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "s")
    with Engine(store) as engine:
        volumes = Volumes(engine, SMALL_BUFFER)
        inode = new_file(volumes)
        image = guest_memory(1, 10)
        volumes.write(inode, 0, image)
        volumes.flush()

        def surprise(pages: memoryview, *, domain: int) -> "array[int]":
            raise RuntimeError("surprise")

        monkeypatch.setattr(engine, "route", surprise)
        volumes.write(inode, 0, b"new")
        expected = b"new" + image[3:]
        for _ in range(2):
            with pytest.raises(CorruptStore, match=r"an internal error \(RuntimeError"):
                volumes.flush()
        for call in (
            lambda: volumes.write(inode, 0, b"x"),
            lambda: volumes.truncate(inode, 0),
            lambda: volumes.punch(inode, 0, 1),
            lambda: volumes.allocate(inode, 0, 1),
            lambda: volumes.remove(inode),
        ):
            with pytest.raises(CorruptStore):
                call()
        assert isinstance(volumes.failed, CorruptStore)
        assert read_all(volumes, inode) == expected
        with suppress(DifffsError):
            volumes.close()
        store.abandon()
    with Store.open(tmp_path / "s") as store:
        out = bytearray(len(image))
        store.read_pages(inode, 0, 10, out)
        assert out == image
        assert store.check() == []


@pytest.mark.expected_log("the routing thread ends|writing has stopped")
def test_a_surprise_wakes_who_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "s")
    with Engine(store) as engine:
        volumes = Volumes(engine, SMALL_BUFFER)
        inode = new_file(volumes)

        def surprise(pages: memoryview, *, domain: int) -> "array[int]":
            raise RuntimeError("surprise")

        monkeypatch.setattr(engine, "route", surprise)
        with pytest.raises(CorruptStore):
            volumes.write(inode, 0, bytes(3 * SMALL_BUFFER))
        with suppress(DifffsError):
            volumes.close()
        store.abandon()


def test_a_store_open_for_reading(tmp_path: Path) -> None:
    image = guest_memory(1, 20)
    with open_volumes(tmp_path / "s") as volumes:
        inode = new_file(volumes)
        volumes.write(inode, 0, image)
    with Store.open(tmp_path / "s", read_only=True) as store, Engine(store) as engine:
        volumes = Volumes(engine)
        assert read_all(volumes, inode) == image
        assert volumes.seek_data(inode, 0) == 0
        volumes.flush()
        for call in (
            lambda: volumes.write(inode, 0, b"x"),
            lambda: volumes.truncate(inode, 0),
            lambda: volumes.punch(inode, 0, 1),
            lambda: volumes.allocate(inode, 0, 1),
            lambda: volumes.remove(inode),
        ):
            with pytest.raises(StoreReadOnly, match="open for reading"):
                call()
        volumes.close()


# -- many threads --------------------------------------------------------------------------------


def _stamped(volume: int, page: int, version: int) -> bytes:
    """A page that says what it is, all over."""
    stamp = volume.to_bytes(4, "little") + page.to_bytes(4, "little")
    return (stamp + version.to_bytes(8, "little")) * 128 + Random(version).randbytes(2048)


def test_readers_writers_and_flushes_at_once(tmp_path: Path) -> None:
    pages, seconds = 600, 2.0
    with open_volumes(tmp_path / "s", buffer_bytes=SMALL_BUFFER, quiet_seconds=0.1) as volumes:
        inodes = [new_file(volumes, f"v{i}") for i in range(2)]
        written = [array("Q", bytes(8 * pages)) for _ in inodes]  # versions that have returned
        for inode in inodes:
            volumes.truncate(inode, pages * PAGE)
        stop = threading.Event()
        errors: list[BaseException] = []

        def guard(work: "object") -> threading.Thread:
            assert callable(work)

            def run() -> None:
                try:
                    while not stop.is_set():
                        work()
                except BaseException as error:
                    errors.append(error)
                    stop.set()

            return threading.Thread(target=run)

        def writer(which: int) -> "object":
            random = Random(which)

            def step() -> None:
                page = random.randrange(pages)
                version = written[which][page] + 1
                volumes.write(inodes[which], page * PAGE, _stamped(which, page, version))
                written[which][page] = version

            return step

        def reader(seed: int) -> "object":
            random = Random(100 + seed)

            def step() -> None:
                which, page = random.randrange(2), random.randrange(pages)
                at_least = written[which][page]
                found = volumes.read(inodes[which], page * PAGE, PAGE)
                version = int.from_bytes(found[8:16], "little")
                assert version >= at_least
                assert found == (_stamped(which, page, version) if version else bytes(PAGE))

            return step

        def flusher() -> None:
            time.sleep(0.05)
            before = [list(versions) for versions in written]
            volumes.flush()
            page = Random(time.monotonic_ns()).randrange(pages)
            out = bytearray(PAGE)
            for which, inode in enumerate(inodes):
                volumes.store.read_pages(inode, page, 1, out)
                assert int.from_bytes(out[8:16], "little") >= before[which][page]

        threads = [guard(writer(0)), guard(writer(1)), guard(reader(0)), guard(flusher)]
        for thread in threads:
            thread.start()
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        if errors:
            raise errors[0]
        volumes.flush()
        for which, inode in enumerate(inodes):
            for page in range(pages):
                version = written[which][page]
                expected = _stamped(which, page, version) if version else bytes(PAGE)
                assert volumes.read(inode, page * PAGE, PAGE) == expected


# -- a byte array as the model -------------------------------------------------------------------

_LIMIT = 12 * PAGE
_offsets = st.one_of(st.integers(0, _LIMIT), st.integers(0, 12).map(lambda page: page * PAGE))
_operations = st.one_of(
    st.tuples(st.just("write"), _offsets, st.integers(0, 3 * PAGE)),
    st.tuples(st.just("punch"), _offsets, _offsets),
    st.tuples(st.just("truncate"), _offsets, st.just(0)),
    st.tuples(st.just("allocate"), _offsets, _offsets),
    st.tuples(st.just("flush"), st.just(0), st.just(0)),
    st.tuples(st.just("read"), _offsets, _offsets),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_operations, max_size=25), st.integers(0, 1 << 32))
def test_any_sequence_of_operations(operations: list[tuple[str, int, int]], seed: int) -> None:
    random = Random(seed)
    with scratch() as folder, open_volumes(folder / "s", buffer_bytes=1 << 20) as volumes:
        inode = new_file(volumes)
        model = bytearray()
        for operation, offset, length in operations:
            if operation == "write":
                data = random.randbytes(length)
                volumes.write(inode, offset, data)
                if length:
                    model.extend(bytes(max(0, offset + length - len(model))))
                    model[offset : offset + length] = data
            elif operation == "punch":
                volumes.punch(inode, offset, length)
                end = max(offset, min(offset + length, len(model)))
                model[offset:end] = bytes(end - offset) if offset < len(model) else b""
            elif operation == "truncate":
                volumes.truncate(inode, offset)
                model = model[:offset] + bytes(max(0, offset - len(model)))
            elif operation == "allocate":
                if length:  # the kernel refuses 0
                    volumes.allocate(inode, offset, length)
                    model.extend(bytes(max(0, offset + length - len(model))))
            elif operation == "flush":
                volumes.flush()
            else:
                assert volumes.read(inode, offset, length) == model[offset : offset + length]
            assert volumes.namespace.get(inode).size == len(model)
        assert read_all(volumes, inode) == model
        volumes.flush()
        assert read_all(volumes, inode) == model


@pytest.mark.expected_log("writing has stopped")
def test_what_has_stopped_does_not_look_for_work_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume to be removed, or a crowded buffer, is urgent only while it can be helped."""
    rounds = threading.Semaphore(0)
    with suppress(CorruptStore), open_volumes(tmp_path / "s") as volumes:
        inode = new_file(volumes)
        volumes.flush()
        monkeypatch.setattr(volumes, "_one_round", rounds.release)
        with volumes.lock:
            volumes.namespace.unlink("/a")
            volumes.fail(CorruptStore("for the test"))
            volumes.store.remove(inode)
        for _ in range(3):  # those under way, and the one that fail() asked for
            rounds.acquire(timeout=0.2)
        again = rounds.acquire(timeout=0.3)
        monkeypatch.undo()
    assert not again


@pytest.mark.expected_log("but what making room takes")
def test_pages_do_not_take_the_room_that_making_room_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the reserve, which a file system may not give again, a full disk would stay full."""
    with open_volumes(tmp_path / "store") as volumes:
        number = new_file(volumes)
        page = Random(1).randbytes(4096)
        with monkeypatch.context() as patched:
            patched.setattr(Reserve, "hold", lambda self: False)
            volumes.write(number, 0, page)
            with pytest.raises(StoreFull):
                volumes.flush()
            assert volumes.store.object_count() == 0
        volumes.flush()
        assert volumes.read(number, 0, 4096) == page


# -- memory --------------------------------------------------------------------------------------


def test_an_idle_buffer_gives_its_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_module, "_GIVE_BACK_SECONDS", 0.05)
    with open_volumes(tmp_path / "store", buffer_bytes=SMALL_BUFFER) as volumes:
        inode = new_file(volumes)
        content = guest_memory(1, SMALL_BUFFER // PAGE // 2)
        volumes.write(inode, 0, content)
        assert volumes.resident_buffer_bytes >= len(content)
        volumes.flush()
        until = time.monotonic() + SECONDS
        while volumes.resident_buffer_bytes > SMALL_BUFFER // 8:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert read_all(volumes, inode) == content


def test_a_daemon_that_carries_swap_keeps_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had better not ask for it when there is none."""
    monkeypatch.setattr(volume_module, "_GIVE_BACK_SECONDS", 0.05)
    with open_volumes(tmp_path / "store", buffer_bytes=SMALL_BUFFER) as volumes:
        volumes.keeps_memory = True
        inode = new_file(volumes)
        volumes.write(inode, 0, guest_memory(1, 400))
        volumes.flush()
        time.sleep(2.5)  # more than two looks at an empty buffer
        given = [volumes.pages.give_back_memory() for _ in range(2)]
        assert given == [0, 400], "nobody has given back any of it before"


# -- whose pages a flush is for -------------------------------------------------------------------


def test_a_flush_is_for_the_volumes_that_are_named(tmp_path: Path) -> None:
    """The others' pages go on waiting; nobody waits for what others have buffered."""
    with open_volumes(tmp_path / "store", buffer_bytes=SMALL_BUFFER, quiet_seconds=3600) as volumes:
        mine, theirs, third = (new_file(volumes, name) for name in "abc")
        for inode in (mine, theirs, third):
            volumes.write(inode, 0, guest_memory(inode, 20))
        volumes.flush([mine])
        assert [volumes.pages.buffered(each) for each in (mine, theirs, third)] == [0, 20, 20]
        assert len(volumes.pages.waiting([theirs, third, 77])) == 40
        assert list(volumes.pages.waiting([mine])) == []
        volumes.write(mine, PAGE, guest_memory(9, 1))
        volumes.flush([third, mine])
        assert [volumes.pages.buffered(each) for each in (mine, theirs, third)] == [0, 20, 0]
        volumes.flush([])  # names and sizes only
        assert volumes.pages.buffered(theirs) == 20
        volumes.flush()
        assert not volumes.pages.waiting_count
        assert volumes.read(theirs, 0, 20 * PAGE) == guest_memory(theirs, 20)


def test_flushes_that_meet_are_all_answered(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "store", buffer_bytes=SMALL_BUFFER, quiet_seconds=3600) as volumes:
        inodes = [new_file(volumes, name) for name in "abcdef"]

        def write_and_flush(inode: int) -> None:
            for turn in range(10):
                volumes.write(inode, turn * PAGE, guest_memory(inode + turn, 1))
                volumes.flush([inode] if turn % 3 else None)
                assert not volumes.pages.buffered(inode)

        with ThreadPoolExecutor(len(inodes)) as pool:
            for done in [pool.submit(write_and_flush, inode) for inode in inodes]:
                done.result(SECONDS)
