"""The unbounded index of features, against a dictionary."""

from array import array
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.study import _kernels

few_features = st.integers(0, 12)


class Model:
    """Feature -> pages, best first."""

    def __init__(self, kept: int, newest: bool) -> None:
        self.kept, self.newest = kept, newest
        self.pages: dict[int, list[int]] = {}

    def put(self, features: list[int], number: int) -> None:
        for feature in features:
            if feature:
                held = self.pages.setdefault(feature, [])
                if self.newest:
                    held.insert(0, number)
                else:
                    held.append(number)
                del held[self.kept :]

    def find(self, features: list[int], limit: int) -> list[int]:
        votes: Counter[int] = Counter()
        for feature in features:
            if feature:
                votes.update(self.pages.get(feature, []))
        return [number for number, _count in votes.most_common(limit)]


@settings(deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(few_features, min_size=width, max_size=width), min_size=1, max_size=40
        )
    ),
    st.integers(1, 8),
    st.booleans(),
    st.integers(0, 6),
)
def test_it_finds_what_a_dictionary_finds(
    rows: list[list[int]], kept: int, newest: bool, limit: int
) -> None:
    index = _kernels.FeatureIndex(len(rows[0]), kept, newest)
    model = Model(kept, newest)
    features = array("I", [feature for row in rows for feature in row])
    for number, row in enumerate(rows):
        assert index.find(features, number, limit) == model.find(row, limit)
        index.put(features, number, number + 1, number)
        model.put(row, number)
    assert index.features == len(model.pages)
    assert index.pages == sum(map(len, model.pages.values()))
    assert index.find_all(features, limit) == sum(len(model.find(row, limit)) for row in rows)


def test_it_grows() -> None:
    count = 50_000
    features = array("I", [(i * 2654435761) % (1 << 32) or 1 for i in range(1, 2 * count + 1)])
    index = _kernels.FeatureIndex(2, 1, True)
    index.put(features, 0, count, 7)
    assert index.features == index.pages == 2 * count
    for row in range(0, count, 997):
        assert index.find(features, row, 2) == [7 + row]


def test_rows_that_are_not_there_are_refused() -> None:
    index = _kernels.FeatureIndex(4, 1, True)
    features = array("I", range(11))
    index.put(features, 0, 2, 0)
    for start, end in ((0, 3), (-1, 1), (2, 1)):
        with pytest.raises(IndexError):
            index.put(features, start, end, 0)
    with pytest.raises(IndexError):
        index.find(features, 2, 1)
    for width, kept in ((0, 1), (65, 1), (4, 0), (4, 9)):
        with pytest.raises(ValueError, match="features a page"):
            _kernels.FeatureIndex(width, kept, True)
    with pytest.raises(ValueError, match="wanted"):
        index.find(features, 0, 513)
