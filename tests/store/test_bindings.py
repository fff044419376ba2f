"""Blocks of the index that are another's, or of another time, never come out as data.

A small store is written in several commits, and kept as it was after each. Then single blocks of
4 KiB of its index are put back to an earlier state, exchanged, or repeated elsewhere, and single
values exchanged, repeated or removed, all of them in turn.
"""

import os
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from struct import pack

import lmdb
import pytest
import xxhash

from difffs.errors import CorruptStore
from difffs.store import Store
from difffs.store.bindings import CommitRecord, Kind, bind, is_bound
from tests.pages import PAGE, guest_memory, same_filled_page
from tests.stores import OpenStore, scratch

BLOCK = 4096
DATABASES = ("extents", "tables", "inodes", "settings")
STORE_ID = bytes(range(16))


# ------------------------------------------------------------------------------------ by themselves


def test_a_binding_is_a_hash_of_identity_summary_and_value() -> None:
    chunk = pack("<IIII", 0, 3, 2, 1) + bytes(4064)
    summary = pack("<HHH", 3, 2, 1)
    seed = xxhash.xxh3_64_intdigest(STORE_ID + b"T" + b"12345678" + summary)
    expected = pack("<Q", xxhash.xxh3_64_intdigest(chunk, seed)) + summary
    assert bind(STORE_ID, Kind.TABLE, b"12345678", chunk) == expected
    seed = xxhash.xxh3_64_intdigest(STORE_ID + b"S" + b"recipe")
    expected = pack("<Q", xxhash.xxh3_64_intdigest(b"{}", seed))
    assert bind(STORE_ID, Kind.SETTING, b"recipe", b"{}") == expected


def test_only_all_of_it_together_is_right() -> None:
    chunk = pack("<IIII", 0, 3, 2, 1) + bytes(4064)
    bound = bind(STORE_ID, Kind.TABLE, b"12345678", chunk)
    assert is_bound(bound, STORE_ID, Kind.TABLE, b"12345678", chunk)
    assert is_bound(None, STORE_ID, Kind.TABLE, b"12345678", None)
    flipped = bytearray(chunk)
    flipped[2000] ^= 1
    for wrong in (
        (None, STORE_ID, Kind.TABLE, b"12345678", chunk),
        (bound, STORE_ID, Kind.TABLE, b"12345678", None),
        (bound, STORE_ID, Kind.TABLE, b"12345678", bytes(flipped)),
        (bound, STORE_ID, Kind.TABLE, b"12345679", chunk),
        (bound, STORE_ID, Kind.INODE, b"12345678", chunk),
        (bound, bytes(16), Kind.TABLE, b"12345678", chunk),
        (bound[:-1], STORE_ID, Kind.TABLE, b"12345678", chunk),
        (b"", STORE_ID, Kind.TABLE, b"12345678", chunk),
    ):
        assert not is_bound(*wrong), wrong
    for place in range(len(bound)):
        other = bytearray(bound)
        other[place] ^= 1
        assert not is_bound(bytes(other), STORE_ID, Kind.TABLE, b"12345678", chunk)


def test_a_commit_record_sums_up_bindings() -> None:
    record = CommitRecord(7, codecs=[(1, 2, 3, 4)])
    bounds = [bind(STORE_ID, Kind.SETTING, bytes([i]), b"value") for i in range(50)]
    for bound in bounds:
        record.add(Kind.SETTING, bound)
    record.remove(Kind.SETTING, bounds[3])
    total = sum(int.from_bytes(bound, "little") for bound in bounds if bound != bounds[3])
    assert record.total == total % (1 << 64)
    assert record.counts[Kind.SETTING] == 49
    stored = record.pack(STORE_ID)
    assert CommitRecord.unpack(STORE_ID, stored) == record
    for wrong in (stored[:-1], stored + bytes(32), b"", stored[8:]):
        with pytest.raises(ValueError, match="commit record"):
            CommitRecord.unpack(STORE_ID, wrong)
    with pytest.raises(ValueError, match="commit record"):
        CommitRecord.unpack(bytes(16), stored)


# ------------------------------------------------------------------------------------- in a store


class Kept:
    """A closed store, what is in it, and its index as it was after earlier commits."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store"
        self.data = self.path / "index-2" / "data.mdb"
        self.earlier: list[bytes] = []
        random = Random(1)
        for step in range(5):
            with OpenStore(self.path) as opened:
                for name in range(2):
                    self._write(opened, f"vm{name}.mem", step, random)
                if step == 3:
                    opened.remove(opened.store.namespace.lookup("/vm1.mem").number)
            self.earlier.append(self.data.read_bytes())
        self.now = self.earlier.pop()
        self.contents = self.read()

    def _write(self, opened: OpenStore, name: str, step: int, random: Random) -> None:
        namespace = opened.store.namespace
        if namespace.exists(f"/{name}"):
            volume = namespace.lookup(f"/{name}").number
        else:
            volume = opened.new_volume(name)
        first = 300 * step
        opened.write(volume, first, guest_memory(random.randrange(1000), 30))
        words = b"".join(same_filled_page(random) for _ in range(120))
        opened.write(volume, first + 150, words)
        opened.store.fill(volume, first // 2, 20, 0)

    def read(self) -> dict[str, bytes]:
        """Everything; CorruptStore where something cannot be told."""
        found = {}
        with Store.open(self.path, read_only=True) as store:
            if store.namespace.is_damaged:
                raise CorruptStore("names")
            for inode in store.namespace:
                if inode.is_volume:
                    out = bytearray(inode.size)
                    first, pages = 0, inode.size // PAGE
                    while (at := store.next_data(inode.number, first, pages)) is not None:
                        end = store.next_hole(inode.number, at, pages)
                        view = memoryview(out)[at * PAGE : end * PAGE]
                        store.read_pages(inode.number, at, end - at, view)
                        first = end
                    found[inode.name] = bytes(out)
        return found

    def put(self, data: bytes) -> None:
        self.data.write_bytes(data)

    def judge(self, what: str) -> str:
        """All that is read now is right, or an error; and check() finds what is an error. In a
        process of its own: LMDB may not survive what it reads."""
        child = os.fork()
        if child == 0:
            code = _FAILED
            try:
                code = self._outcome()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in _OUTCOMES, f"ended with {ended}: {what}"
        return _OUTCOMES[ended]

    def _outcome(self) -> int:
        try:
            read = self.read()
        except CorruptStore:
            return _FOUND if self._is_found() else _NOT_FOUND
        if read != self.contents:
            return _WRONG
        return _RIGHT_AND_FOUND if self._is_found() else _RIGHT

    def _is_found(self) -> bool:
        try:
            with Store.open(self.path, read_only=True) as store:
                return bool(store.check())
        except CorruptStore:
            return True  # the command tells that as a finding


_RIGHT, _RIGHT_AND_FOUND, _FOUND, _WRONG, _NOT_FOUND, _FAILED = range(10, 16)
_OUTCOMES = {
    _RIGHT: "right",
    _RIGHT_AND_FOUND: "right, but found",
    _FOUND: "found",
    _WRONG: "wrong",
    _NOT_FOUND: "not found",
}
_ALLOWED = {"right", "right, but found", "found"}


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    with scratch() as folder:
        yield Kept(folder)


def in_turn(kept: Kept, changes: Iterator[tuple[str, bytes]]) -> Counter[str]:
    """Judges the store with each changed index; how often it came out how."""
    outcomes: Counter[str] = Counter()
    try:
        for what, data in changes:
            kept.put(data)
            outcome = kept.judge(what)
            assert outcome in _ALLOWED, f"{outcome}: {what}"
            outcomes[outcome] += 1
    finally:
        kept.put(kept.now)
    return outcomes


def blocks(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def with_block(data: bytes, number: int, block: bytes) -> bytes:
    return data[: number * BLOCK] + block + data[(number + 1) * BLOCK :]


def test_a_sound_store_is_read(kept: Kept) -> None:
    assert kept.judge("nothing") == "right"


def test_blocks_of_an_earlier_time(kept: Kept) -> None:
    def changes() -> Iterator[tuple[str, bytes]]:
        for age, earlier in enumerate(kept.earlier):
            for number, (block, now) in enumerate(
                zip(blocks(earlier), blocks(kept.now), strict=False)
            ):
                if block != now:
                    yield f"block {number} as after {age}", with_block(kept.now, number, block)

    outcomes = in_turn(kept, changes())
    assert outcomes["found"] > 20


def test_blocks_of_elsewhere(kept: Kept) -> None:
    def changes() -> Iterator[tuple[str, bytes]]:
        random, there = Random(3), blocks(kept.now)
        for number in range(len(there)):
            for other in random.sample(range(len(there)), 2):
                if there[number] != there[other]:
                    moved = with_block(kept.now, number, there[other])
                    yield f"block {other} in place of {number}", moved
                    both = with_block(moved, other, there[number])
                    yield f"blocks {other} and {number} exchanged", both

    assert in_turn(kept, changes())["found"] > 50


@contextmanager
def index_of(kept: Kept) -> Iterator[lmdb.Environment]:
    """The index, opened behind the store's back."""
    folder = str(kept.data.parent)
    with lmdb.open(folder, max_dbs=5, map_size=1 << 30, lock=False) as environment:
        yield environment


def pairs_of(kept: Kept, name: str) -> dict[bytes, bytes]:
    with index_of(kept) as index, index.begin() as transaction:
        database = index.open_db(name.encode(), transaction, create=False)
        with transaction.cursor(database) as cursor:
            return dict(cursor)


def change(kept: Kept, name: str, values: dict[bytes, bytes | None]) -> None:
    with index_of(kept) as index, index.begin(write=True) as transaction:
        database = index.open_db(name.encode(), transaction, create=False)
        for key, value in values.items():
            if value is None:
                transaction.delete(key, db=database)
            else:
                transaction.put(key, value, db=database)


@pytest.mark.parametrize("name", [*DATABASES, "bindings"])
def test_values_that_are_missing_or_exchanged(kept: Kept, name: str) -> None:
    pairs = pairs_of(kept, name)
    for key, value in pairs.items():
        wrong: list[dict[bytes, bytes | None]] = [{key: None}]
        other = next((other for other in pairs if pairs[other] != value), None)
        if other is not None:
            wrong += [{key: pairs[other], other: value}, {key: pairs[other]}]
        for values in wrong:
            change(kept, name, values)
            outcome = kept.judge(f"{name} {values}")
            kept.put(kept.now)
            expected = {"found"}
            if name in ("settings", "bindings"):  # reading takes no notice of all settings
                expected.add("right, but found")
            assert outcome in expected, f"{outcome}: {values}"


def test_an_index_that_went_back_as_a_whole(kept: Kept) -> None:
    for earlier in kept.earlier:
        kept.put(earlier)
        with pytest.raises(CorruptStore, match=r"but commit .* was made"):
            Store.open(kept.path, read_only=True)
    kept.put(kept.now)


def test_an_index_of_another_store(kept: Kept, tmp_path: Path) -> None:
    with OpenStore(tmp_path / "other") as opened:
        opened.write(opened.new_volume("a"), 0, guest_memory(1, 50))
    kept.put((tmp_path / "other" / "index-2" / "data.mdb").read_bytes())
    with pytest.raises(CorruptStore):
        Store.open(kept.path, read_only=True).close()
    kept.put(kept.now)
