"""Hint tables on disk: kept when closed properly, distrusted otherwise, grown in time."""

import errno
import mmap
import os
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import DigestTable
from difffs.errors import MediumFailed, StoreFull
from difffs.store import Store
from difffs.store import hints as hints_module
from difffs.store.hints import FIRST_DIGEST_SLOTS, FIRST_SKETCH_SLOTS, Hints, noted_commit
from tests.pages import guest_memory
from tests.stores import OpenStore


def open_hints(folder: Path) -> Hints:
    return Hints(folder, "digests", "sketches")


def fill(hints: Hints, count: int, seed: int = 1) -> list[tuple[int, int]]:
    """Random digests, all different; the tables grow as a store makes them grow."""
    random = Random(seed)
    pairs = [(digest, 256 + i) for i, digest in enumerate(random.sample(range(1 << 32), count))]
    for digest, number in pairs:
        while not hints.digests.insert(digest, number):
            hints.grow_digests()
        hints.make_room(hints.digests.used, 0, 0)
    return pairs


def holds(table: DigestTable, pairs: list[tuple[int, int]]) -> bool:
    """Whether these pairs are in the table, and no others, as far as it knows digests."""
    unknown = 32 - table.known_bits
    return sorted(table.pairs()) == sorted((digest >> unknown << unknown, i) for digest, i in pairs)


def test_new_tables_are_empty_and_not_complete(tmp_path: Path) -> None:
    with open_hints(tmp_path) as hints:
        assert not hints.complete, "a store that lost its digests must fill them again"
        assert hints.digests.pairs() == []
        assert hints.digests.slots == FIRST_DIGEST_SLOTS
        assert hints.sketches.slots == FIRST_SKETCH_SLOTS


def test_closing_properly_keeps_everything(tmp_path: Path) -> None:
    with open_hints(tmp_path) as hints:
        hints.complete = True
        pairs = fill(hints, 100)
        hints.sketches.put(12345, 777)
    with open_hints(tmp_path) as hints:
        assert hints.complete
        assert holds(hints.digests, pairs)
        assert hints.digests.used == 100
        assert hints.sketches.find(12345) == 777


def test_what_nobody_vouches_for_is_not_complete(tmp_path: Path) -> None:
    with open_hints(tmp_path) as hints:
        hints.complete = True
    hints = open_hints(tmp_path)
    hints.close(complete=False)
    assert not _complete(tmp_path)


def test_a_table_that_lacks_digests_stays_incomplete(tmp_path: Path) -> None:
    hints = open_hints(tmp_path)
    hints.complete = False
    hints.close(complete=True)
    assert not _complete(tmp_path)


def test_a_crash_leaves_them_not_complete(tmp_path: Path) -> None:
    with open_hints(tmp_path) as hints:
        hints.complete = True
    hints = open_hints(tmp_path)
    for name in ("digests", "sketches"):
        (tmp_path / f"{name}.copy").write_bytes((tmp_path / name).read_bytes())
    hints.close()
    for name in ("digests", "sketches"):
        (tmp_path / f"{name}.copy").replace(tmp_path / name)
    assert not _complete(tmp_path)


def _complete(folder: Path) -> bool:
    hints = open_hints(folder)
    try:
        return hints.complete
    finally:
        hints.close(complete=hints.complete)


def test_digests_survive_growing(tmp_path: Path) -> None:
    with open_hints(tmp_path) as hints:
        pairs = fill(hints, 20_000)
        assert holds(hints.digests, pairs)
        assert hints.digests.used == 20_000
        assert 0.8 < hints.digests.used / hints.digests.slots <= 0.92, "neither cramped nor waste"
        assert (tmp_path / "digests").stat().st_size == 4096 + 4 * hints.digests.slots
        assert not (tmp_path / "digests.new").exists()


def test_sketches_grow_and_keep_what_they_know(tmp_path: Path) -> None:
    random = Random(2)
    features = [random.getrandbits(32) for _ in range(500)]
    with open_hints(tmp_path) as hints:
        for number, feature in enumerate(features):
            hints.sketches.put(feature, 256 + number)
        known = {feature: hints.sketches.find(feature) for feature in features}
        next_slots = hints.sketches.next_slots
        hints.make_room(0, bases=next_slots, features=1)
        assert hints.sketches.slots == FIRST_SKETCH_SLOTS, "not crowded"
        hints.make_room(0, bases=350, features=4)
        assert hints.sketches.slots == next_slots > FIRST_SKETCH_SLOTS
        hints.make_room(0, bases=10_000, features=4)
        assert 1.1 < 40_000 / hints.sketches.slots <= 1.3, "as many steps as it takes"
        assert {feature: hints.sketches.find(feature) for feature in features} == known
        assert (tmp_path / "sketches").stat().st_size == 4096 + 4 * hints.sketches.slots


def test_sketches_stop_growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints_module, "MAXIMUM_SKETCH_SLOTS", 2 * FIRST_SKETCH_SLOTS)
    with open_hints(tmp_path) as hints:
        for _ in range(20):
            hints.make_room(0, bases=1 << 30, features=4)
        assert hints.sketches.slots == 2 * FIRST_SKETCH_SLOTS


def test_clearing_empties_the_table(tmp_path: Path) -> None:
    with open_hints(tmp_path) as hints:
        fill(hints, 10)
        hints.clear_digests()
        assert (hints.digests.pairs(), hints.digests.used) == ([], 0)


def test_leftovers_of_growing_are_removed(tmp_path: Path) -> None:
    for name in ("digests.new", "sketches.new"):
        (tmp_path / name).write_bytes(b"x" * 10_000)
    with open_hints(tmp_path):
        assert sorted(os.listdir(tmp_path)) == ["digests", "sketches"]


@pytest.mark.parametrize("name", ["digests", "sketches"])
@pytest.mark.parametrize("damage", ["empty", "short", "cut", "longer", "other", "bits", "missing"])
def test_a_damaged_file_is_replaced(tmp_path: Path, name: str, damage: str) -> None:
    with open_hints(tmp_path) as hints:
        hints.complete = True
        fill(hints, 1000)
        hints.sketches.put(1, 300)
    path = tmp_path / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = {
            "empty": b"",
            "short": whole[:5000],
            "cut": whole[: 4096 + 64 * 10],
            "longer": whole + bytes(128),
            "other": b"x" + whole[1:],
            "bits": whole[:24] + b"\x1f" + whole[25:],
        }
        path.write_bytes(changed[damage])
    with open_hints(tmp_path) as hints:
        if name == "digests":
            assert not hints.complete
            assert hints.digests.pairs() == []
        else:
            assert hints.complete
            assert hints.sketches.find(1) == 0


def test_a_full_disk_is_an_error_that_leaves_the_table_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_hints(tmp_path) as hints:
        pairs = fill(hints, 400)
        _make_disk_full(monkeypatch)
        with pytest.raises(StoreFull, match=r"no space left for .*digests\.new"):
            hints.grow_digests()
        with pytest.raises(StoreFull, match=r"no space left for .*sketches\.new"):
            hints.make_room(0, bases=1 << 20, features=4)
        assert holds(hints.digests, pairs)
        assert sorted(os.listdir(tmp_path)) == ["digests", "sketches"]


def test_a_grown_table_that_cannot_take_its_name_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full btrfs even renaming needs room; the old table must still be there to work with."""

    def no_space(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    with open_hints(tmp_path) as hints:
        pairs = fill(hints, 400)
        slots = hints.digests.slots
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", no_space)
            with pytest.raises(StoreFull):
                hints.grow_digests()
            with pytest.raises(StoreFull):
                hints.make_room(0, bases=1 << 20, features=4)
        assert holds(hints.digests, pairs)
        assert hints.digests.slots == slots
        hints.grow_digests()
        assert holds(hints.digests, pairs)
        assert hints.digests.slots > slots


def _make_disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(file: int, offset: int, length: int) -> None:
        if os.fstat(file).st_blocks * 512 < offset + length:  # else it has its blocks
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)


def test_a_full_disk_makes_tables_small_not_writes_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables only propose: pages are stored although they will not be found."""
    image = guest_memory(3, 3000)
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        with monkeypatch.context() as patch:
            _make_disk_full(patch)
            opened.write(volume, 0, image)
            slots = opened.store.digests.slots
            assert slots == FIRST_DIGEST_SLOTS
            opened.assert_clean()
        assert opened.read(volume, 0, 3000) == image
        opened.reopen()
        assert opened.store.digests.slots > slots, "filled again"
        objects = opened.store.object_count()
        opened.write(volume, 4000, image)
        assert opened.store.object_count() == objects, "everything is found"
        opened.assert_clean()


def test_a_full_disk_while_filling_again_does_not_keep_the_store_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a")
        opened.write(volume, 0, guest_memory(3, 3000))
        digests = len(opened.store.digests.pairs())
    path = tmp_path / "s" / "digests"
    with path.open("r+b") as file:
        file.truncate(0)
        file.truncate(4096 + 4 * FIRST_DIGEST_SLOTS)
        file.write(b"difffsD2" + bytes(4) + (FIRST_DIGEST_SLOTS // 16).to_bytes(4, "little"))
        file.flush()
        os.posix_fallocate(file.fileno(), 0, 4096 + 4 * FIRST_DIGEST_SLOTS)
    with monkeypatch.context() as patch:
        _make_disk_full(patch)
        with OpenStore(tmp_path / "s") as opened:
            assert 0 < len(opened.store.digests.pairs()) < digests
            opened.assert_clean()
    with OpenStore(tmp_path / "s") as opened:
        assert len(opened.store.digests.pairs()) == digests


def test_tables_are_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for while a file is empty; where that is not known, nothing fails."""
    asked: list[int] = []

    def note(file: int) -> None:
        asked.append(os.fstat(file).st_size)
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(hints_module, "write_in_place", note)
    with open_hints(tmp_path) as hints:
        hints.grow_digests()
    assert asked == [0, 0, 0]


def refuse(*_arguments: object) -> None:
    """A system call that fails."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_table_that_cannot_be_read_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hints(tmp_path, "digests", "sketches").close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse)
        hints = Hints(tmp_path, "digests", "sketches")
    assert not hints.complete
    hints.close()
    hints = Hints(tmp_path, "digests", "sketches")
    hints.close()


class Unwritable(mmap.mmap):
    """Shared memory whose file's medium fails."""

    def flush(self, *_arguments: int) -> None:
        refuse()


@pytest.mark.expected_log("digests could not be written: Input/output error")
def test_a_table_that_does_not_reach_its_medium_is_filled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is in the index is there: closing has not failed."""
    with Store.create(tmp_path / "s"):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", Unwritable)
        with pytest.raises(MediumFailed):  # else it might be taken for closed after a power cut
            Store.open(tmp_path / "s")
    store = Store.open(tmp_path / "s")
    assert store._hints is not None
    monkeypatch.setattr(store._hints._digest_file, "_map", FailingFlush(store._hints))
    store.close()
    commit = noted_commit(tmp_path / "s" / "digests")
    hints = Hints(tmp_path / "s", "digests", "sketches", commit)
    assert not hints.complete
    hints.close()
    with Store.open(tmp_path / "s") as store:
        assert store.check() == []


class FailingFlush:
    """A mapping that can be written and not be synchronised."""

    def __init__(self, hints: Hints) -> None:
        self._map = hints._digest_file._map

    def flush(self, *arguments: int) -> None:
        refuse()

    def close(self) -> None:
        self._map.close()
