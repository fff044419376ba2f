"""LMDB's file read by our own code: what LMDB itself reads of it, and of any damage less."""

from pathlib import Path
from random import Random

import lmdb
import pytest

from difffs.errors import CorruptStore
from difffs.store.lmdb_file import PAGE_BYTES, LmdbFile

NAMES = (b"extents", b"tables", b"empty")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three databases: small values in several levels, values in pages of their own, and nothing;
    some deleted again."""
    random = Random(1)
    with lmdb.open(str(tmp_path), max_dbs=5, map_size=1 << 26, lock=False) as environment:
        extents, tables, _empty = (environment.open_db(name) for name in NAMES)
        for step in range(4):
            with environment.begin(write=True) as transaction:
                for _ in range(1500):
                    key = random.randrange(5000).to_bytes(4, "big")
                    transaction.put(key, random.randbytes(random.randrange(90)), db=extents)
                for chunk in range(40):
                    key = (step * 20 + chunk).to_bytes(8, "big")
                    transaction.put(key, random.randbytes(4080 + 5000 * (chunk == 7)), db=tables)
                for _ in range(300):
                    transaction.delete(random.randrange(5000).to_bytes(4, "big"), db=extents)
    return tmp_path / "data.mdb"


def by_lmdb(file: Path) -> dict[bytes, list[tuple[bytes, bytes]]]:
    found = {}
    with lmdb.open(str(file.parent), max_dbs=5, readonly=True, lock=False) as environment:
        for name in NAMES:
            database = environment.open_db(name, create=False)
            with environment.begin() as transaction:
                found[name] = [
                    (bytes(key), bytes(value)) for key, value in transaction.cursor(db=database)
                ]
    return found


def test_it_reads_what_lmdb_reads(file: Path) -> None:
    own = LmdbFile(file)
    for name, expected in by_lmdb(file).items():
        assert list(own.entries(name)) == expected
    assert own.damaged == []
    assert list(own.entries(b"other")) == []
    assert own.damaged == ["there is no database 'other'"]
    own.close()


def test_a_damaged_page_costs_what_is_below_it(file: Path) -> None:
    """Nothing is made up, each damaged page is told, and the rest is read."""
    whole, expected = file.read_bytes(), by_lmdb(file)
    random, lost_some = Random(2), 0
    for _ in range(150):
        damaged = bytearray(whole)
        at = PAGE_BYTES * random.randrange(2, len(whole) // PAGE_BYTES)
        how = random.randrange(3)
        if how == 0:
            damaged[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)
        elif how == 1:
            other = PAGE_BYTES * random.randrange(len(whole) // PAGE_BYTES)
            damaged[at : at + PAGE_BYTES] = damaged[other : other + PAGE_BYTES]
        else:
            damaged[at : at + 16] = random.randbytes(16)
        file.write_bytes(damaged)
        own = LmdbFile(file)
        for name, entries in expected.items():
            found = list(own.entries(name))
            if how != 2:
                assert {key for key, _value in found} <= {key for key, _value in entries}
            if len(found) < len(entries):
                assert own.damaged
                lost_some += 1
        own.close()
    assert lost_some > 20


def test_whatever_is_there_no_other_error_comes_out(file: Path) -> None:
    whole, random = file.read_bytes(), Random(3)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(random.choice((1, 30, 3000))):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        if random.random() < 0.3:
            del damaged[random.randrange(len(damaged)) :]
        file.write_bytes(damaged)
        try:
            own = LmdbFile(file)
        except CorruptStore:
            continue
        for name in NAMES:
            for _key, _value in own.entries(name):
                pass
        own.close()


def test_a_damaged_meta_page_is_told(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(200))
    own = LmdbFile(file)
    assert own.may_be_former
    assert own.damaged == ["page 0 is no meta page"]
    own.close()
