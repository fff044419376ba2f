"""Sets of integers as ranges."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from difffs.images.ranges import Ranges

RANGE = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda each: (each[0], sum(each)))


@given(st.lists(RANGE, max_size=12), RANGE)
def test_against_a_set(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    ranges = Ranges()
    expected: set[int] = set()
    for start, end in added:
        ranges.add(start, end)
        expected |= set(range(start, end))
    found = list(ranges)
    assert {each for start, end in found for each in range(start, end)} == expected
    assert len(ranges) == len(found)
    # Neighbours are joined.
    assert all(low[1] < high[0] for low, high in pairwise(found))
    parts = ranges.parts(*asked)
    assert [each for start, end, _new in parts for each in range(start, end)] == list(range(*asked))
    assert all((each in expected) != new for start, end, new in parts for each in range(start, end))
    assert all(low[2] != high[2] for low, high in pairwise(parts))
