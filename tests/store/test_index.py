"""The index file: one that was cut is refused before LMDB maps it."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from difffs import _kernels
from difffs.errors import CorruptStore, MediumFailed
from difffs.store import Store, index
from tests.pages import guest_memory
from tests.stores import OpenStore

PAGE = 4096


def make_store(path: Path) -> int:
    """A store with some pages; the bytes of its index."""
    opened = OpenStore(path)
    opened.write(opened.new_volume("a"), 0, guest_memory(1, 300))
    opened.store.close()
    return (path / "index-2" / "data.mdb").stat().st_size


@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.9])
def test_a_cut_index_is_refused(tmp_path: Path, kept: float) -> None:
    size = make_store(tmp_path / "s")
    os.truncate(tmp_path / "s" / "index-2" / "data.mdb", int(size * kept))
    with pytest.raises(CorruptStore, match=r"data\.mdb.*cut off.*restore"):
        Store.open(tmp_path / "s")


def test_an_index_of_something_else_is_refused(tmp_path: Path) -> None:
    size = make_store(tmp_path / "s")
    (tmp_path / "s" / "index-2" / "data.mdb").write_bytes(os.urandom(size))
    with pytest.raises(CorruptStore, match=r"data\.mdb"):
        Store.open(tmp_path / "s")


def _repeat_a_block(path: Path) -> None:
    data = bytearray(path.read_bytes())
    blocks = [
        at
        for at in range(2 * PAGE, len(data), PAGE)
        if int.from_bytes(data[at : at + 8], "little") * PAGE == at and data[at + 10] in (1, 2)
    ]
    for one, two in pairwise(blocks):
        data[two : two + PAGE] = data[one : one + PAGE]
    with path.open("r+b") as file:
        file.write(data)


@pytest.mark.parametrize("how", ["blocks repeated", "an earlier file", "a block of zeros"])
def test_an_index_that_others_change_while_it_is_open_stops_writing(
    tmp_path: Path, how: str
) -> None:
    """LMDB would end the process when it meets a page that cannot be where it is."""
    make_store(tmp_path / "s")
    path = tmp_path / "s" / "index-2" / "data.mdb"
    earlier = path.read_bytes()
    with OpenStore(tmp_path / "s") as opened:
        opened.write(opened.new_volume("b"), 0, guest_memory(2, 300))
        opened.store.commit()
    opened = OpenStore(tmp_path / "s")
    volume = opened.store.namespace.lookup("/b").number
    opened.write(volume, 0, guest_memory(3, 300))
    if how == "blocks repeated":
        _repeat_a_block(path)
    elif how == "an earlier file":
        path.write_bytes(earlier)
    else:
        with path.open("r+b") as file:
            file.write(bytes(PAGE))
    opened.store._index._next_look = 0.0
    with pytest.raises(MediumFailed, match=r"data\.mdb has changed .* `difffs check`"):
        opened.store.commit()
    with pytest.raises(MediumFailed):
        opened.store.commit()
    opened.abandon()


def test_an_index_that_went_back_while_it_is_open_is_not_read(tmp_path: Path) -> None:
    """It is whole, and all that it holds was right once."""
    make_store(tmp_path / "s")
    path = tmp_path / "s" / "index-2" / "data.mdb"
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.store.namespace.lookup("/a").number
        opened.write(volume, 0, guest_memory(2, 100))
        opened.store.commit()
        earlier = path.read_bytes()
        opened.write(volume, 0, guest_memory(3, 100))
        opened.store.fill(volume, 100, 200, 0)
        opened.store.commit()
    opened = OpenStore(tmp_path / "s")
    path.write_bytes(earlier)
    with pytest.raises(CorruptStore, match="not the one that was committed"):
        opened.read(volume, 0, 100)
    opened.abandon()


def test_a_chunk_that_went_back_while_it_is_open_is_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "s" / "index-2" / "data.mdb"
    with OpenStore(tmp_path / "s") as opened:
        volume = opened.new_volume("a", 3000)
        opened.store.commit()
        earlier = path.read_bytes()
        opened.write(volume, 2000, guest_memory(3, 100))
        opened.store.commit()
    opened = OpenStore(tmp_path / "s")
    path.write_bytes(earlier)
    for look in (opened.store.next_data, opened.read):
        with pytest.raises((CorruptStore, MediumFailed)):  # whichever LMDB or its value tells first
            look(volume, 0, 3000)
    opened.abandon()


def test_looking_whether_the_index_has_changed_is_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def look(file: int) -> str | None:
        looked.append(file)
        return _kernels.lmdb_damage_of(file)

    monkeypatch.setattr(index, "lmdb_damage_of", look)
    with OpenStore(tmp_path / "s") as opened:
        looked.clear()
        monkeypatch.setattr(index, "LOOKING_SHARE", 1e-9)  # the next look is in an age
        volume = opened.new_volume("a")
        for number in range(5):
            opened.write(volume, number, guest_memory(number, 1))
            opened.store.commit()
        assert len(looked) == 1
        monkeypatch.setattr(index, "LOOKING_SHARE", 1e9)
        opened.store._index._next_look = 0.0
        for number in range(5):
            opened.write(volume, number, guest_memory(number + 9, 1))
            opened.store.commit()
        assert len(looked) == 6


def test_the_file_reaches_its_last_page_after_any_commit(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s")
    volume = opened.new_volume("a", 4000)
    for round_number in range(12):
        opened.write(volume, 97 * round_number, guest_memory(round_number, 60))
        opened.store.fill(volume, 50 * round_number, 70, 0)
        opened.store.commit()
        information = opened.store._index._environment.info()
        size = (tmp_path / "s" / "index-2" / "data.mdb").stat().st_size
        assert size >= (information["last_pgno"] + 1) * PAGE
    opened.store.close()
    Store.open(tmp_path / "s").close()
