"""A kept store of version 1: everything in it is read, and nothing is written."""

import os
from pathlib import Path

import lmdb
import pytest

from difffs._kernels import EXTENT_SIDE_BYTES
from difffs.errors import CorruptStore, FormatTooOld, PayloadDamaged
from difffs.store import Store
from difffs.store.check import Finding
from difffs.store.format import read_format
from difffs.store.upgrade import upgrade_store
from tests.store.former_store import CONTENTS, expected_volumes, unpack, volumes_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "payloads"
    }


def test_all_of_it_is_read(folder: Path) -> None:
    before = files(folder)
    with Store.open(folder, read_only=True) as store:
        assert [str(finding) for finding in store.check()] == []
        assert volumes_of(store) == expected_volumes()
        assert store.page_counts() == CONTENTS["pages"]
        assert store.object_count() == CONTENTS["objects"]
        names = {store.namespace.path(each.number): each for each in store.namespace if each.nlink}
        assert names.keys() == CONTENTS["names"].keys()
        for path, facts in CONTENTS["names"].items():
            assert names[path].size == facts["size"]
            assert names[path].target == facts["target"]
            assert oct(names[path].mode) == facts["mode"]
        volume = names["/one.mem"].number
        assert store.next_hole(volume, 0, 5000) == 15
        assert store.next_data(volume, 203, 5000) == 203
    assert files(folder) == before


def test_it_is_not_written(folder: Path) -> None:
    before = files(folder)
    with pytest.raises(FormatTooOld, match=f"difffs upgrade {folder}"):
        Store.open(folder)
    after = files(folder)
    after.pop("lock")
    assert after == before


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, at)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1]), at)


def test_damaged_payloads_are_found(folder: Path) -> None:
    """Of any kind: in one extent a patch lies first, in another a word."""
    for position in (3 * EXTENT_SIDE_BYTES + 100, 4 * EXTENT_SIDE_BYTES + 3):
        damage(folder / "payloads", position)
    with Store.open(folder, read_only=True) as store:
        assert len(store.check()) >= 2
        with pytest.raises(PayloadDamaged):
            volumes_of(store)


@pytest.mark.parametrize("name", ["extents", "tables", "inodes", "settings"])
def test_a_damaged_value_is_found(folder: Path, name: str) -> None:
    """A flipped bit of the last header, chunk or name, and of the dictionary."""
    with lmdb.open(str(folder / "index"), max_dbs=4, map_size=1 << 30) as environment:
        database = environment.open_db(name.encode(), create=False)
        with environment.begin(write=True) as transaction, transaction.cursor(database) as cursor:
            assert cursor.set_key(b"dictionary") if name == "settings" else cursor.last()
            key, stored = cursor.item()
            flipped = bytearray(stored)
            flipped[len(flipped) // 2] ^= 1
            transaction.put(key, bytes(flipped), db=database)
    try:
        with Store.open(folder, read_only=True) as store:
            found = store.check()
    except CorruptStore as error:
        found = [Finding("store", str(folder), str(error))]
    assert found
    with pytest.raises(CorruptStore):
        upgrade_store(folder)
    assert read_format(folder).version == 1


def test_a_cut_payload_file_is_found(folder: Path) -> None:
    os.truncate(folder / "payloads", 3 * EXTENT_SIDE_BYTES + 1000)
    with Store.open(folder, read_only=True) as store:
        assert "the payload file ends before it" in " ".join(map(str, store.check()))
