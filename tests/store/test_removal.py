"""Volumes are removed in pieces: little memory, short turns with the lock, nothing left after a
crash."""

import errno
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import TABLE_ENTRIES
from difffs.errors import StoreFull
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store import store as store_module
from difffs.store.page_tables import ZERO
from difffs.store.reserve import RESERVE_BYTES, Reserve
from difffs.volume import Volumes
from tests.pages import PAGE, guest_memory
from tests.stores import OpenStore, new_file, open_volumes, small_disk

LARGE = 3 << 30
"""Bytes of zeros: 774 page table chunks, 3 MB of them. No more: memory is traced, which is slow."""
LITTLE = 1 << 20
"""Several times what is taken, and a third of what all of its chunks would."""


def large_volume(opened: OpenStore, name: str = "large", size: int = LARGE) -> int:
    """A volume of zeros, committed."""
    volume = opened.new_volume(name, size // PAGE_SIZE)
    opened.store.fill(volume, 0, size // PAGE_SIZE, ZERO)
    opened.store.commit()
    return volume


def test_removing_takes_short_turns_and_little_memory(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    store = opened.store
    volume = large_volume(opened)
    store.namespace.unlink("/large")
    store.remove(volume)
    tracemalloc.start()
    tables, pieces, before = store._page_tables, 0, store._page_tables.dirty_count
    while store.remove_some():
        pieces += 1
        assert tables.dirty_count - before <= store_module._DROPPED_AT_ONCE, "in one turn"
        before = tables.dirty_count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pieces >= LARGE // PAGE_SIZE // TABLE_ENTRIES // store_module._DROPPED_AT_ONCE
    assert peak < LITTLE
    store.commit()
    assert store.page_counts()["total"] == 0
    assert store.check() == []
    opened.close()


@pytest.mark.parametrize("way", ["truncate", "punch"])
def test_long_ranges_are_freed_without_loading_them(tmp_path: Path, way: str) -> None:
    opened = OpenStore(tmp_path / "s")
    volume = large_volume(opened)
    opened.close()
    with open_volumes(tmp_path / "s") as volumes:
        tracemalloc.start()
        if way == "truncate":
            volumes.truncate(volume, 0)
        else:
            volumes.punch(volume, 0, LARGE)
        volumes.flush()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < LITTLE
        assert volumes.store.page_counts()["total"] == 0


def test_a_commit_waits_for_a_change_in_several_steps(tmp_path: Path) -> None:
    """Or else a crash would show pages behind the end of a volume, or half a truncation."""
    opened = OpenStore(tmp_path / "s")
    volume = large_volume(opened, size=1 << 30)
    store, begun, finished = opened.store, threading.Event(), threading.Event()

    def change() -> None:
        with store.one_change():
            store.make_hole(volume, 0, (1 << 30) // PAGE_SIZE)
            begun.set()
            finished.wait(20)
            store.namespace.set_size(store.namespace.get(volume), 0)

    thread = threading.Thread(target=change)
    committing = threading.Thread(target=store.commit)
    thread.start()
    begun.wait(20)
    committing.start()
    committing.join(0.2)
    assert committing.is_alive(), "the commit did not wait"
    finished.set()
    thread.join()
    committing.join(20)
    store.abandon()
    with Store.open(tmp_path / "s", read_only=True) as store:
        assert store.check() == []
        assert store.namespace.get(volume).size == 0


def test_a_removed_volume_is_found_by_nobody(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s") as volumes:
        inode = new_file(volumes)
        volumes.write(inode, 0, guest_memory(1, 20))
        with volumes.lock:
            volumes.namespace.unlink("/a")
        volumes.remove(inode)
        attempts: list[Callable[[], object]] = [
            lambda: volumes.write(inode, 0, b"x"),
            lambda: volumes.truncate(inode, 0),
            lambda: volumes.punch(inode, 0, PAGE),
            lambda: volumes.read(inode, 0, 1),
            lambda: volumes.remove(inode),
        ]
        for attempt in attempts:
            with pytest.raises(FileNotFoundError):
                attempt()


def test_only_what_has_no_name_is_removed(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("a")
    with pytest.raises(OSError, match="busy") as caught:
        opened.store.remove(volume)
    assert caught.value.errno == errno.EBUSY
    opened.close()


@pytest.mark.parametrize("committed", [0, 1, 3])
def test_a_crash_during_a_removal_leaves_a_sound_store(tmp_path: Path, committed: int) -> None:
    opened = OpenStore(tmp_path / "s")
    kept = opened.new_volume("kept", 300)
    opened.write(kept, 0, guest_memory(1, 300))
    volume = large_volume(opened, size=6 << 30)
    opened.write(volume, 7, guest_memory(1, 300))
    opened.store.commit()
    opened.store.namespace.unlink("/large")
    opened.store.remove(volume)
    opened.store.commit()
    for _ in range(committed):
        opened.store.remove_some()
        opened.store.commit()
    opened.store.remove_some()
    opened.store.abandon()
    with Store.open(tmp_path / "s", read_only=True) as store:
        assert store.check() == []
    with Store.open(tmp_path / "s") as store:
        assert store.check() == []
        assert store.page_counts()["total"] == 300
        assert [inode.name for inode in store.namespace.volumes()] == ["kept"]


def test_an_orphan_that_was_never_linked_goes_with_the_next_opening(tmp_path: Path) -> None:
    """As an import leaves it that was killed between two commits."""
    opened = OpenStore(tmp_path / "s")
    inode = opened.store.namespace.create_orphan()
    opened.store.namespace.set_size(inode, 300 * PAGE)
    opened.engine.write(inode.number, range(300), guest_memory(1, 300))
    opened.engine.commit()
    opened.store.abandon()
    with Store.open(tmp_path / "s", read_only=True) as store:
        assert store.check() == []
        assert store.namespace.volumes() == []
    Store.open(tmp_path / "s").close()
    with Store.open(tmp_path / "s", read_only=True) as store:
        assert store.page_counts()["total"] == 0
        assert store.occupancy().payload == 0
        assert store.check() == []


def fill(volumes: Volumes, inode: int, random: Random) -> None:
    """Writes and flushes until there is no room."""
    for megabyte in range(1 << 10):
        volumes.write(inode, megabyte << 20, random.randbytes(1 << 20))
        volumes.flush()


@pytest.mark.expected_log("no space left")
@pytest.mark.parametrize("way", ["remove", "truncate", "punch", "truncate within", "punch within"])
def test_what_fills_a_disk_makes_room_when_it_goes(tmp_path: Path, way: str) -> None:
    """Though the commit that frees it needs room for itself."""
    random = Random(1)
    content, again = random.randbytes(2 << 20), random.randbytes(10 << 20)
    with (
        small_disk(tmp_path / "disk", 24 << 20) as folder,
        open_volumes(folder / "s", "identical-only", buffer_bytes=1 << 20) as volumes,
    ):
        kept, large = new_file(volumes, "kept"), new_file(volumes, "large")
        volumes.write(kept, 0, content)
        volumes.flush()
        with pytest.raises(StoreFull):
            fill(volumes, large, random)
        if way == "remove":
            with volumes.lock:
                volumes.namespace.unlink("/large")
            volumes.remove(large)
        elif way == "truncate":
            volumes.truncate(large, 0)
        elif way == "truncate within":
            volumes.truncate(large, 100_001)
        elif way == "punch":
            volumes.punch(large, 0, 1 << 40)
        else:
            volumes.punch(large, 100, (14 << 20) + 1)
        volumes.flush()
        assert volumes.read(kept, 0, len(content)) == content
        other = new_file(volumes, "other")
        volumes.write(other, 0, again)
        volumes.flush()
        assert volumes.read(other, 0, len(again)) == again


@pytest.mark.expected_log("no space left")
def test_half_dead_extents_of_a_full_disk_are_rewritten(tmp_path: Path) -> None:
    """Every other page goes: no extent is empty, and rewriting one takes room."""
    random = Random(2)
    with (
        small_disk(tmp_path / "disk", 24 << 20) as folder,
        open_volumes(folder / "s", "identical-only", buffer_bytes=1 << 20) as volumes,
    ):
        large = new_file(volumes, "large")
        with pytest.raises(StoreFull):
            fill(volumes, large, random)
        size = volumes.namespace.get(large).size
        for page in range(0, size // PAGE, 2):
            volumes.punch(large, page * PAGE, PAGE)
        volumes.flush()
        other, again = new_file(volumes, "other"), random.randbytes(4 << 20)
        volumes.write(other, 0, again)
        volumes.flush()
        assert volumes.read(other, 0, len(again)) == again


def test_the_reserve_counts_and_goes_with_the_end(tmp_path: Path) -> None:
    with open_volumes(tmp_path / "s") as volumes:
        path = tmp_path / "s" / "reserve"
        assert path.stat().st_blocks * 512 == RESERVE_BYTES
        assert volumes.store.occupancy().metadata > RESERVE_BYTES
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "may_go_on"),
    [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EMFILE, True), (errno.EROFS, True)],
)
def test_only_a_lack_of_room_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, may_go_on: bool
) -> None:
    """Without descriptors there is no reserve, but pages find room all the same."""
    reserve = Reserve(tmp_path / "reserve")

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    for call in ("open", "posix_fallocate"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, refuse)
            assert reserve.hold() is may_go_on
        assert not reserve.held
    assert reserve.hold()


def test_a_reserve_for_which_there_is_no_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", RESERVE_BYTES // 2) as folder:
        reserve = Reserve(folder / "reserve")
        assert not reserve.hold()
        assert (folder / "reserve").stat().st_blocks == 0, "half a reserve is in the way"
        assert not reserve.held
    other = Reserve(tmp_path / "reserve")
    assert other.hold()
    assert other.held
    assert Reserve(tmp_path / "reserve").hold(), "what a crash left is given back and held anew"
