"""The index file: one that was cut is refused before LMDB maps it."""

import os
from pathlib import Path

import pytest

from difffs.errors import CorruptStore
from difffs.store import Store
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
