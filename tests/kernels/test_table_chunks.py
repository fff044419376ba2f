"""Page table chunks in memory against lists of 1,016 object ids."""

from array import array

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from difffs._kernels import TABLE_BYTES, TABLE_ENTRIES, TableChunks, table_counts
from tests.kernels import kernel_oracle as oracle

HOLE, LOST, ZERO = 0, 254, 255
VOLUME = 7

ids = st.sampled_from([HOLE, LOST, ZERO]) | st.integers(257, 2**32 - 1)
entries = st.integers(0, TABLE_ENTRIES - 1)
chunks = st.integers(0, 2)


def objects_of(values: list[int]) -> int:
    """Pages that are objects, or lost."""
    return sum(value not in (HOLE, ZERO) for value in values)


class ChunkMachine(RuleBasedStateMachine):
    """Maps, fills, looks up, commits and forgets; lists say what must be there and given back."""

    @initialize()
    def begin(self) -> None:
        self.chunks = TableChunks()
        self.model: dict[int, list[int]] = {}
        self.forgotten = [0, 0]
        self.dirty: set[int] = set()
        self.released: list[int] = []

    def _bring(self, chunk: int) -> None:
        if chunk not in self.model:
            self.model[chunk] = [HOLE] * TABLE_ENTRIES
            self.chunks.bring(VOLUME, chunk, None)

    def _replace(self, chunk: int, entry: int, value: int) -> None:
        former, self.model[chunk][entry] = self.model[chunk][entry], value
        self.dirty.add(chunk)
        if former > ZERO:
            self.released.append(former)

    @rule(
        chunk=chunks,
        mapped=st.dictionaries(entries, ids, max_size=20),
        around=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    )
    def map(self, chunk: int, mapped: dict[int, int], around: tuple[int, int]) -> None:
        """Pages of one chunk in the middle of longer lists."""
        self._bring(chunk)
        before, after = around
        wanted = sorted(mapped.items())
        pages = [7] * before + [chunk * TABLE_ENTRIES + e for e, _ in wanted] + [9] * after
        values = [999] * before + [value for _, value in wanted] + [999] * after
        end = before + len(wanted)
        self.chunks.map(VOLUME, array("Q", pages), array("I", values), before, end)
        for entry, value in wanted:
            self._replace(chunk, entry, value)

    @rule(
        chunk=chunks,
        first=entries,
        count=st.integers(1, TABLE_ENTRIES),
        value=st.sampled_from([HOLE, LOST, ZERO]),
    )
    def fill(self, chunk: int, first: int, count: int, value: int) -> None:
        self._bring(chunk)
        count = min(count, TABLE_ENTRIES - first)
        self.chunks.fill(VOLUME, chunk, first, count, value)
        for entry in range(first, first + count):
            self._replace(chunk, entry, value)

    @rule(chunk=chunks, first=entries, count=st.integers(0, TABLE_ENTRIES), at=st.integers(0, 5))
    def look_up(self, chunk: int, first: int, count: int, at: int) -> None:
        self._bring(chunk)
        count = min(count, TABLE_ENTRIES - first)
        out = array("I", [77] * (at + count + 2))
        self.chunks.lookup(VOLUME, chunk, first, count, out, at)
        assert list(out) == [77] * at + self.model[chunk][first : first + count] + [77, 77]

    @rule(most=st.integers(0, 40))
    def take_released(self, most: int) -> None:
        taken = self.chunks.take_released(most)
        kept = len(self.released) - len(taken)
        assert len(taken) == min(most, len(self.released))
        assert sorted([*self.released[kept:]]) == sorted(taken)
        del self.released[kept:]

    @rule(chunk=chunks, again=st.booleans())
    def forget(self, chunk: int, again: bool) -> None:
        """Its pages count as before: who forgets a changed chunk has made them holes."""
        self.chunks.forget(VOLUME, chunk)
        values = self.model.pop(chunk, None)
        self.dirty.discard(chunk)
        if values is not None and again:
            self.chunks.bring(VOLUME, chunk, oracle.table_chunk(values))
            self.model[chunk] = values
        elif values is not None:
            self.chunks.count(VOLUME, -objects_of(values), -values.count(ZERO), -values.count(LOST))

    @rule(succeeds=st.booleans())
    def commit(self, succeeds: bool) -> None:
        handed: dict[int, bytes | None] = {}
        for volume, chunk, view in self.chunks.begin_commit():
            assert volume == VOLUME
            handed[chunk] = None if view is None else bytes(view)
        assert handed.keys() == self.dirty
        assert self.chunks.changed == len(self.dirty)
        for chunk, content in handed.items():
            values = self.model[chunk]
            empty = values.count(HOLE) == TABLE_ENTRIES
            assert content == (None if empty else oracle.table_chunk(values))
        self.chunks.end_commit(succeeds)
        if succeeds:
            self.dirty = set()

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "chunks"):
            return
        counts = {
            chunk: (objects_of(values), values.count(ZERO), values.count(LOST))
            for chunk, values in self.model.items()
        }
        for chunk in self.model:
            assert self.chunks.counts(VOLUME, chunk) == counts[chunk]
        totals = [sum(each[i] for each in counts.values()) for i in range(3)]
        assert [self.chunks.objects, self.chunks.zeros, self.chunks.lost] == totals
        assert self.chunks.mapped(VOLUME) == self.chunks.objects + self.chunks.zeros
        assert self.chunks.mapped(VOLUME + 1) == 0
        assert self.chunks.released == len(self.released)
        assert self.chunks.changed == len(self.dirty)
        assert sorted(self.chunks.chunks_of(VOLUME, 0, 3)) == sorted(self.model)
        assert len(self.chunks) == len(self.model)


ChunkMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestChunks = ChunkMachine.TestCase


@pytest.fixture
def one() -> TableChunks:
    """One chunk that maps nothing."""
    made = TableChunks()
    made.bring(VOLUME, 0, None)
    return made


def test_what_is_not_in_memory_is_not_made_up(one: TableChunks) -> None:
    assert one.has(VOLUME, 0)
    assert not one.has(VOLUME, 1)
    assert not one.has(VOLUME + 1, 0)
    for call in (
        lambda: one.counts(VOLUME, 1),
        lambda: one.lookup(VOLUME, 1, 0, 1, array("I", [0]), 0),
        lambda: one.fill(VOLUME, 1, 0, 1, ZERO),
        lambda: one.map(VOLUME, array("Q", [2000]), array("I", [300]), 0, 1),
    ):
        with pytest.raises(KeyError):
            call()


@pytest.mark.parametrize(
    ("first", "count", "at", "room"),
    [
        (0, TABLE_ENTRIES + 1, 0, 2000),
        (TABLE_ENTRIES, 1, 0, 10),
        (0, 5, 6, 10),
        (0, 5, -1, 10),
        (2**32 - 5, 6, 0, 10),
    ],
)
def test_looking_up_outside_is_refused(
    one: TableChunks, first: int, count: int, at: int, room: int
) -> None:
    with pytest.raises(IndexError):
        one.lookup(VOLUME, 0, first, count, array("I", bytes(4 * room)), at)


@pytest.mark.parametrize(
    ("first", "count", "value"),
    [(0, TABLE_ENTRIES + 1, 0), (TABLE_ENTRIES, 1, 0), (0, 1, 256), (0, 1, 1), (2**32 - 1, 2, 0)],
)
def test_filling_outside_or_with_an_object_is_refused(
    one: TableChunks, first: int, count: int, value: int
) -> None:
    with pytest.raises(IndexError):
        one.fill(VOLUME, 0, first, count, value)
    assert one.changed == 0


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (0, 3), (0, 4), (1, 9)])
def test_mapping_more_than_there_is_is_refused(one: TableChunks, start: int, end: int) -> None:
    with pytest.raises(IndexError):
        one.map(VOLUME, array("Q", [1, 2, 3]), array("I", [300, 301]), start, end)
    assert one.changed == 0


@pytest.mark.parametrize("size", [0, 16, TABLE_BYTES - 4, TABLE_BYTES + 4])
def test_a_chunk_has_its_size(one: TableChunks, size: int) -> None:
    chunk = bytearray(size)
    for call in (lambda: table_counts(chunk), lambda: one.bring(VOLUME, 5, chunk)):
        with pytest.raises(ValueError, match="page table chunk"):
            call()


@pytest.mark.parametrize("counts", [(0, 0, 1), (2, 1, 3), (1000, 17, 0), (2**32 - 1, 1, 0)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int, int]) -> None:
    chunk = array("I", [0, *counts, *[HOLE] * TABLE_ENTRIES]).tobytes()
    with pytest.raises(ValueError, match="contradicts itself"):
        table_counts(chunk)


def test_the_chunk_in_memory_is_the_true_one(one: TableChunks) -> None:
    one.fill(VOLUME, 0, 3, 2, ZERO)
    one.bring(VOLUME, 0, oracle.table_chunk([300] * TABLE_ENTRIES))
    assert one.counts(VOLUME, 0) == (0, 2, 0)


def test_trimming_keeps_what_is_changed_and_what_was_looked_at() -> None:
    chunks = TableChunks()
    for chunk in range(20):
        chunks.bring(VOLUME, chunk, None)
    for chunk in (3, 4):
        chunks.fill(VOLUME, chunk, 0, 1, ZERO)
    chunks.trim(10)
    assert len(chunks) - chunks.changed == 10
    left = set(chunks.chunks_of(VOLUME, 0, 20))
    assert {3, 4} <= left
    looked_at = min(left - {3, 4})
    chunks.counts(VOLUME, looked_at)
    chunks.trim(1)
    assert set(chunks.chunks_of(VOLUME, 0, 20)) == {3, 4, looked_at}
    chunks.trim(0)
    assert set(chunks.chunks_of(VOLUME, 0, 20)) == {3, 4}


def test_only_ids_of_objects_are_released(one: TableChunks) -> None:
    one.release(array("I", [HOLE, ZERO, 300, 301]))
    assert sorted(one.take_released(10)) == [300, 301]
