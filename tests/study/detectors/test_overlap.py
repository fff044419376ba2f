"""Exact overlap, against sets of windows."""

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.study import _kernels
from tests.pages import PAGE, compressible_page, guest_pages, shifted_page, similar_page
from tests.study.detectors.detector_oracle import windows


def common(page: bytes, other: bytes, words: int) -> int:
    """Distinct windows in both."""
    sets = [{tuple(window) for window in windows(each, words)} for each in (page, other)]
    return len(sets[0] & sets[1])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5), st.integers(1, 7))
def test_it_counts_what_sets_have_in_common(
    seed: int, words: int, best_count: int, batch: int
) -> None:
    random = Random(seed)
    pages = guest_pages(random, 14)
    chosen = sorted(random.sample(range(len(pages)), 5))
    overlap = _kernels.Overlap(
        b"".join(pages[number] for number in chosen), array("I", chosen), words, best_count
    )
    for first in range(0, len(pages), batch):
        overlap.look(b"".join(pages[first : first + batch]), first)
    for number, best in zip(chosen, overlap.best(), strict=True):
        counts = [(common(pages[number], pages[i], words), i) for i in range(number)]
        expected = sorted((pair for pair in counts if pair[0]), reverse=True)[:best_count]
        assert [(count, i) for i, count in best] == expected


def test_an_empty_sample_and_silent_pages_have_nothing_in_common() -> None:
    overlap = _kernels.Overlap(b"", array("I"), 4, 2)
    overlap.look(compressible_page(Random(1)), 0)
    assert overlap.best() == []
    overlap = _kernels.Overlap(bytes(PAGE), array("I", [3]), 4, 2)
    overlap.look(bytes(PAGE), 0)
    assert overlap.best() == [[]]


def test_places_do_not_matter_in_steps_of_a_word() -> None:
    random = Random(2)
    base = compressible_page(random)
    moved = random.randbytes(80) + base[:-80]
    overlap = _kernels.Overlap(moved, array("I", [2]), 4, 2)
    overlap.look(compressible_page(random) + base, 0)
    ((number, count), *_others) = overlap.best()[0]
    assert number == 1
    assert count > 400


def test_the_most_similar_page_comes_first() -> None:
    random = Random(3)
    base = compressible_page(random)
    earlier = [similar_page(base, random, words) for words in (200, 20, 100)]
    earlier.append(shifted_page(base, Random(4)))
    overlap = _kernels.Overlap(base, array("I", [len(earlier)]), 4, 3)
    overlap.look(b"".join(earlier), 0)
    assert [number for number, _count in overlap.best()[0]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("numbers", "words", "best_count"),
    [([1], 4, 1), ([2, 1], 4, 1), ([1, 1], 4, 1), ([1, 2], 0, 1), ([1, 2], 5, 1), ([1, 2], 4, 17)],
)
def test_wrong_parameters_are_refused(numbers: list[int], words: int, best_count: int) -> None:
    with pytest.raises(ValueError, match=r"\d|ascend"):
        _kernels.Overlap(bytes(2 * PAGE), array("I", numbers), words, best_count)
