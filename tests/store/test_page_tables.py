"""Page tables over a real index, against a dictionary: maps, fills, drops, commits that fail."""

from array import array
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import TABLE_ENTRIES
from difffs.store.index import Changes, Index
from difffs.store.page_tables import CHUNK_LIMIT, HOLE, ZERO, PageTables

CHUNKS = 40
PAGES = CHUNKS * TABLE_ENTRIES
VOLUMES = (1, 2, 7)


class Tables:
    """Page tables and what they ought to hold."""

    def __init__(self, path: Path, seed: int) -> None:
        self.random = Random(seed)
        self.index = Index(path, bytes(16), read_only=False, create=True)
        self.tables = PageTables(self.index)
        self.model: dict[tuple[int, int], int] = {}
        self.committed: dict[tuple[int, int], int] = {}
        self.released: Counter[int] = Counter()
        self.last_id = 1000

    def pages(self) -> tuple[int, int, int]:
        """(volume, first, end) of a range, often of whole chunks."""
        volume = self.random.choice(VOLUMES)
        if self.random.random() < 0.5:
            first, end = sorted(self.random.sample(range(CHUNKS + 1), 2))
            return volume, first * TABLE_ENTRIES, end * TABLE_ENTRIES
        first = self.random.randrange(PAGES - 1)
        return volume, first, min(PAGES, first + self.random.randrange(1, 3000))

    def set(self, volume: int, page: int, value: int) -> None:
        former = self.model.pop((volume, page), HOLE)
        if former not in (HOLE, ZERO):
            self.released[former] += 1
        if value != HOLE:
            self.model[volume, page] = value

    def map(self) -> None:
        volume, first, end = self.pages()
        count = min(end - first, 50)
        pages = sorted(self.random.sample(range(first, end), count))
        ids = []
        for page in pages:
            self.last_id += 1 + self.random.randrange(2)
            ids.append(self.last_id)
            self.set(volume, page, self.last_id)
        self.tables.map(volume, array("Q", pages), array("I", ids))

    def fill(self) -> None:
        volume, first, end = self.pages()
        end = min(end, first + 2 * TABLE_ENTRIES)
        value = self.random.choice((HOLE, ZERO))
        for page in range(first, end):
            self.set(volume, page, value)
        self.tables.fill(volume, first, end - first, value)

    def drop(self) -> None:
        volume = self.random.choice(VOLUMES)
        first, end = sorted(self.random.sample(range(CHUNKS + 1), 2))
        most = self.random.choice((1, 3, 100))
        limit = self.tables.chunks.released + self.random.choice((1, 10_000))
        done = self.tables.drop(volume, first, end, most, limit)
        assert first < done <= end
        for page in range(first * TABLE_ENTRIES, done * TABLE_ENTRIES):
            self.set(volume, page, HOLE)

    def commit(self, *, between: int, fails: bool) -> None:
        """As Store.commit does, with changes at each point where the lock is free."""
        transaction = self.index.begin_commit()
        dropped = self.tables.begin_dropping()
        self.change(between)
        self.index.drop_chunks(transaction, dropped)
        self.index.drop_chunks(transaction, self.tables.begin_dropping())
        state = dict(self.model)
        self.index.put(transaction, Changes(tables=self.tables.begin_commit()))
        self.change(between)
        self.check()
        if fails:
            self.index.abandon(transaction)
        else:
            self.index.end_commit(transaction)
            self.committed = state
            self.index.refresh()
        self.tables.end_commit(succeeded=not fails)

    def change(self, steps: int) -> None:
        for _ in range(steps):
            self.random.choice((self.map, self.map, self.fill, self.drop))()

    def check(self) -> None:
        for volume in VOLUMES:
            wanted = [self.model.get((volume, page), HOLE) for page in range(PAGES)]
            found = self.tables.lookup(volume, 0, PAGES)
            assert list(found) == wanted
            assert self.tables.mapped(volume) == PAGES - wanted.count(HOLE)
            chunks = {page // TABLE_ENTRIES for page in range(PAGES) if wanted[page] != HOLE}
            assert chunks <= set(self.tables.chunks_of(volume, 0, CHUNK_LIMIT))
            self.check_search(volume, wanted)
        found = self.tables.chunks.take_released(self.tables.chunks.released)
        assert Counter(found) == self.released
        self.tables.chunks.release(found)
        assert self.tables.chunks.zeros == sum(value == ZERO for value in self.model.values())

    def check_search(self, volume: int, wanted: list[int]) -> None:
        chunk = self.random.randrange(CHUNKS)
        entry = self.random.randrange(TABLE_ENTRIES)
        base = chunk * TABLE_ENTRIES
        for hole in (False, True):
            places = (
                at for at in range(entry, TABLE_ENTRIES) if (wanted[base + at] == HOLE) == hole
            )
            assert self.tables.first_page(volume, chunk, entry, hole=hole) == next(places, None)
        found = self.tables.next_chunk(volume, chunk, CHUNKS)
        with_data = (c for c in range(chunk, CHUNKS) if any(self.ids_of(c, wanted)))
        assert found is None or found >= chunk
        nearest = next(with_data, None)
        assert nearest is None or (found is not None and found <= nearest)

    @staticmethod
    def ids_of(chunk: int, wanted: list[int]) -> list[int]:
        return wanted[chunk * TABLE_ENTRIES : (chunk + 1) * TABLE_ENTRIES]

    def reopen(self) -> None:
        """As after a crash."""
        self.index.refresh()
        self.tables = PageTables(self.index)
        self.model = dict(self.committed)
        self.released.clear()


@pytest.mark.parametrize("seed", range(12))
def test_tables_hold_what_was_mapped_last(tmp_path: Path, seed: int) -> None:
    tables = Tables(tmp_path, seed)
    for _ in range(6):
        tables.change(4)
        tables.check()
        tables.commit(between=tables.random.randrange(3), fails=tables.random.random() < 0.3)
        tables.check()
        if tables.random.random() < 0.3:
            tables.reopen()
            tables.check()
    tables.index.close()


def commit(index: Index, tables: PageTables) -> None:
    """All changes, with nothing in between."""
    transaction = index.begin_commit()
    index.drop_chunks(transaction, tables.begin_dropping())
    index.put(transaction, Changes(tables=tables.begin_commit()))
    index.end_commit(transaction)
    index.refresh()
    tables.end_commit(succeeded=True)


def test_dropping_takes_no_memory(tmp_path: Path) -> None:
    index = Index(tmp_path, bytes(16), read_only=False, create=True)
    tables = PageTables(index)
    for chunk in range(3000):
        tables.fill(1, chunk * TABLE_ENTRIES, 1, ZERO)
    commit(index, tables)
    before = len(tables.chunks)
    assert tables.drop(1, 0, CHUNK_LIMIT, 5000, 1) == CHUNK_LIMIT
    assert len(tables.chunks) <= before
    assert tables.dirty_count == 3000
    assert tables.chunks_of(1, 0, CHUNK_LIMIT) == []
    commit(index, tables)
    assert index.chunks_of(1, 0, CHUNK_LIMIT, 10) == []
    index.close()
