"""Stores whose names are no UTF-8: their index opens, grows, and is compacted."""

import os
from pathlib import Path

from difffs.store import Store
from difffs.store.lmdb_name import lmdb_name

NAME = os.fsdecode(b"st\xffre\x85")


def test_ordinary_names_stay(tmp_path: Path) -> None:
    with lmdb_name(tmp_path / "ünï", create=True) as name:
        assert name == str(tmp_path / "ünï")
    assert not (tmp_path / "ünï").exists()


def test_a_store_of_such_a_name(tmp_path: Path) -> None:
    with Store.create(tmp_path / NAME) as store:
        volume = store.namespace.create("/volume", 0o100600, 0, 0)
        number = volume.number
    store = Store.open(tmp_path / NAME)
    store._index.compact()
    store.abandon()
    with Store.open(tmp_path / NAME, read_only=True) as store:
        assert store.namespace.lookup("/volume").number == number
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(NAME)]
