"""Merging by ranges of hashes: as with everything at once, however many ranges there are."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.study import hash_ranges
from difffs.study.hash_ranges import count_distinct, first_occurrences
from difffs.study.stored_array import Array, ArrayLike, StoredArray
from tests.stores import scratch

FEW = [0, 1, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1]
hashes = st.one_of(st.sampled_from(FEW), st.integers(0, (1 << 64) - 1))
lists_of_hashes = st.lists(st.lists(hashes, max_size=12), max_size=5)


def stored(arrays: list[Array], folder: Path) -> list[ArrayLike]:
    """As they come back from the cache."""
    found: list[ArrayLike] = []
    for number, array in enumerate(arrays):
        numpy.save(folder / f"{number}.npy", array)
        found.append(StoredArray.find(folder / f"{number}.npy"))
    return found


@pytest.fixture(params=[8, 64, 1 << 20], autouse=True, scope="module")
def range_bytes(request: pytest.FixtureRequest) -> Iterator[None]:
    """From a range for every few hashes to one for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_ranges, "RANGE_BYTES", request.param)
        yield


@given(lists_of_hashes)
def test_distinct_ones_are_counted(lists: list[list[int]]) -> None:
    arrays = [numpy.array(sorted(set(one)), dtype="<u8") for one in lists]
    expected = len({value for one in lists for value in one})
    assert count_distinct(arrays) == expected
    with scratch() as folder:
        assert count_distinct(stored(arrays, folder)) == expected


@given(lists_of_hashes, st.randoms(use_true_random=False), st.booleans())
def test_first_occurrences(lists: list[list[int]], random: Random, some: bool) -> None:
    arrays = [numpy.array(one, dtype="<u8") for one in lists]
    every = [value for one in lists for value in one]
    chosen = numpy.array([random.random() < 0.7 for _ in every], dtype=bool)
    seen = set()
    expected = []
    for value, counts in zip(every, chosen if some else [True] * len(every), strict=True):
        expected.append(bool(counts) and value not in seen)
        if counts:
            seen.add(value)
    of_those = chosen if some else None
    assert first_occurrences(arrays, chosen=of_those).tolist() == expected
    with scratch() as folder:
        assert first_occurrences(stored(arrays, folder), chosen=of_those).tolist() == expected


def test_a_column_of_narrower_hashes() -> None:
    keys = [
        numpy.array([[1, 5], [1, 6], [(1 << 32) - 1, 5]], dtype="<u4"),
        numpy.array([[2, 5], [(1 << 32) - 1, 7]], dtype="<u4"),
    ]
    assert first_occurrences(keys, 0).tolist() == [True, False, True, True, False]
    assert first_occurrences(keys, 1).tolist() == [True, True, False, False, True]
