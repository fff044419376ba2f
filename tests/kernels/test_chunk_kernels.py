"""Page table chunks against a list of 1,016 object ids."""

from array import array

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from difffs import _kernels
from difffs._kernels import TABLE_BYTES, TABLE_ENTRIES
from tests.kernels import kernel_oracle as oracle

HOLE, ZERO = 0, 255

ids = st.sampled_from([HOLE, ZERO]) | st.integers(257, 2**32 - 1)
entries = st.integers(0, TABLE_ENTRIES - 1)


def stored(entries: list[int]) -> bytes:
    """A sealed chunk: checksum, objects, zeros, 0, then the entries."""
    objects = sum(value not in (HOLE, ZERO) for value in entries)
    body = array("I", [objects, entries.count(ZERO), 0, *entries]).tobytes()
    return array("I", [oracle.checksum(body)]).tobytes() + body


class ChunkMachine(RuleBasedStateMachine):
    """Maps, fills and looks up; a list says what must be there and what must be given back."""

    chunk: bytearray
    model: list[int]

    @initialize()
    def begin(self) -> None:
        self.chunk = bytearray(TABLE_BYTES)
        self.model = [HOLE] * TABLE_ENTRIES

    def _replace(self, entry: int, value: int) -> list[int]:
        former, self.model[entry] = self.model[entry], value
        return [] if former in (HOLE, ZERO) else [former]

    @rule(
        number=st.integers(0, 4_000_000),
        mapped=st.dictionaries(entries, ids, max_size=20),
        around=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    )
    def map(self, number: int, mapped: dict[int, int], around: tuple[int, int]) -> None:
        """Pages of one chunk in the middle of longer lists."""
        before, after = around
        wanted = sorted(mapped.items())
        pages = [7] * before + [number * TABLE_ENTRIES + e for e, _ in wanted] + [9] * after
        values = [999] * before + [value for _, value in wanted] + [999] * after
        released = array("I", [4242])
        _kernels.table_map(
            self.chunk,
            array("Q", pages),
            array("I", values),
            before,
            before + len(wanted),
            released,
        )
        expected = [4242]
        for entry, value in wanted:
            expected += self._replace(entry, value)
        assert list(released) == expected

    @rule(first=entries, count=st.integers(0, TABLE_ENTRIES), value=st.sampled_from([HOLE, ZERO]))
    def fill(self, first: int, count: int, value: int) -> None:
        count = min(count, TABLE_ENTRIES - first)
        released = array("I")
        _kernels.table_fill(self.chunk, first, count, value, released)
        expected = []
        for entry in range(first, first + count):
            expected += self._replace(entry, value)
        assert list(released) == expected

    @rule(first=entries, count=st.integers(0, TABLE_ENTRIES), at=st.integers(0, 5))
    def look_up(self, first: int, count: int, at: int) -> None:
        count = min(count, TABLE_ENTRIES - first)
        out = array("I", [77] * (at + count + 2))
        _kernels.table_lookup(self.chunk, first, count, out, at)
        assert list(out) == [77] * at + self.model[first : first + count] + [77, 77]

    @rule()
    def seal_and_read(self) -> None:
        empty = _kernels.table_seal(self.chunk)
        assert empty == all(value == HOLE for value in self.model)
        assert bytes(self.chunk) == stored(self.model)

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "chunk"):
            return
        sealed = bytearray(self.chunk)
        _kernels.table_seal(sealed)
        zeros = self.model.count(ZERO)
        objects = TABLE_ENTRIES - zeros - self.model.count(HOLE)
        assert _kernels.table_counts(sealed) == (objects, zeros)


ChunkMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestChunk = ChunkMachine.TestCase


def test_a_missing_chunk_is_all_holes() -> None:
    out = array("I", [5] * 10)
    _kernels.table_lookup(None, 1000, 8, out, 1)
    assert list(out) == [5, *[HOLE] * 8, 5]


def test_nothing_is_looked_up_anywhere() -> None:
    out = array("I")
    _kernels.table_lookup(None, 0, 0, out, 0)
    _kernels.table_lookup(bytearray(TABLE_BYTES), TABLE_ENTRIES, 0, out, 0)
    assert list(out) == []


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
def test_looking_up_outside_is_refused(first: int, count: int, at: int, room: int) -> None:
    for chunk in (None, bytearray(TABLE_BYTES)):
        with pytest.raises(IndexError):
            _kernels.table_lookup(chunk, first, count, array("I", bytes(4 * room)), at)


@pytest.mark.parametrize(
    ("first", "count", "value"),
    [(0, TABLE_ENTRIES + 1, 0), (TABLE_ENTRIES, 1, 0), (0, 1, 256), (0, 1, 1), (2**32 - 1, 2, 0)],
)
def test_filling_outside_or_with_an_object_is_refused(first: int, count: int, value: int) -> None:
    chunk = bytearray(TABLE_BYTES)
    with pytest.raises(IndexError):
        _kernels.table_fill(chunk, first, count, value, array("I"))
    assert chunk == bytes(TABLE_BYTES)


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (0, 3), (0, 4), (1, 9)])
def test_mapping_more_than_there_is_is_refused(start: int, end: int) -> None:
    chunk = bytearray(TABLE_BYTES)
    pages, numbers = array("Q", [1, 2, 3]), array("I", [300, 301])
    with pytest.raises(IndexError):
        _kernels.table_map(chunk, pages, numbers, start, end, array("I"))
    assert chunk == bytes(TABLE_BYTES)


@pytest.mark.parametrize("size", [0, 16, TABLE_BYTES - 4, TABLE_BYTES + 4])
def test_a_chunk_has_its_size(size: int) -> None:
    chunk = bytearray(size)
    for call in (
        lambda: _kernels.table_seal(chunk),
        lambda: _kernels.table_counts(chunk),
        lambda: _kernels.table_fill(chunk, 0, 1, 0, array("I")),
        lambda: _kernels.table_lookup(chunk, 0, 1, array("I", [0]), 0),
        lambda: _kernels.table_map(chunk, array("Q", [0]), array("I", [0]), 0, 1, array("I")),
    ):
        with pytest.raises(ValueError, match="page table chunk"):
            call()


def test_a_damaged_chunk_is_refused() -> None:
    good = stored([300, ZERO, HOLE, 301] + [HOLE] * (TABLE_ENTRIES - 4))
    assert _kernels.table_counts(good) == (2, 1)
    for place in (0, 3, 4, 8, 12, 16, 20, 2000, TABLE_BYTES - 1):
        bad = bytearray(good)
        bad[place] ^= 0x40
        with pytest.raises(ValueError, match="checksum"):
            _kernels.table_counts(bad)
