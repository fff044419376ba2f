"""Which pages belong together: the native search against its plain twin."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.refine._likeness import Likeness
from tests.pages import compressible_page, guest_pages, random_page, similar_page
from tests.refine import likeness_oracle

PAGE = 4096


def mixture(seed: int, count: int) -> list[bytes]:
    """Pages of which many are like others, some equal, some empty and some like none."""
    random = Random(seed)
    pages: list[bytes] = []
    for _ in range(count):
        kind = random.randrange(8)
        if pages and kind < 4:
            pages.append(similar_page(random.choice(pages), random, random.choice([1, 12, 100])))
        elif pages and kind == 4:
            pages.append(random.choice(pages))
        elif kind == 5:
            pages.append(bytes(PAGE))
        else:
            pages.append(random.choice([random_page, compressible_page])(random))
    return pages


def likeness_of(pages: list[bytes]) -> Likeness:
    likeness = Likeness(len(pages))
    for page in pages:
        likeness.add(page)
    return likeness


# Groups, budget, stretch and region so small that some tens of pages have many of each.
LIMITS = st.sampled_from(
    [(4, 3, 8, 16), (4, 6, 16, 16), (8, 3, 16, 32), (2, 9, 16, 1), (64, 2, 9, 9)]
)


@given(st.integers(0, 2**32), st.integers(0, 60), LIMITS)
@settings(max_examples=80, deadline=None)
def test_groups_are_the_twins(seed: int, count: int, limits: tuple[int, int, int, int]) -> None:
    pages = mixture(seed, count)
    likeness = likeness_of(pages)
    known = [likeness_oracle.features(page) for page in pages]
    assert [likeness.features(i) for i in range(count)] == known
    found = [list(group) for group in likeness.groups(*limits)]
    assert found == likeness_oracle.groups(known, *limits)


def scattered(random: Random, families: int, count: int) -> list[bytes]:
    """Pages of families, dealt out by chance: each stretch has some of all."""
    parents = [compressible_page(random) for _ in range(families)]
    return [similar_page(random.choice(parents), random) for _ in range(count)]


@given(st.integers(0, 2**32), st.integers(1, 200), LIMITS)
@settings(max_examples=60, deadline=None)
def test_a_stretch_is_in_no_more_groups_than_it_may(
    seed: int, families: int, limits: tuple[int, int, int, int]
) -> None:
    random = Random(seed)
    most, budget, stretch, region = limits
    count = random.randrange(400)
    kept = likeness_of(scattered(random, families, count)).groups(most, budget, stretch, region)
    assert sorted(page for group in kept for page in group) == list(range(count))
    assert all(0 < len(group) <= most for group in kept)
    for first in range(0, count, stretch):
        places = range(first, first + stretch)
        assert sum(any(page in places for page in group) for group in kept) <= budget


def test_without_a_budget_these_would_be_in_more() -> None:
    """So that the test above says something."""
    likeness = likeness_of(scattered(Random(6), 60, 400))
    free = likeness.groups(4, 1000, 16, 16)
    touched = [
        sum(any(first <= page < first + 16 for page in group) for group in free)
        for first in range(0, 400, 16)
    ]
    assert max(touched) > 9


def test_pages_of_a_kind_come_together() -> None:
    """Twelve families of ten, dealt out like cards."""
    random = Random(3)
    parents = [compressible_page(random) for _ in range(12)]
    pages = [similar_page(parent, random) for _ in range(10) for parent in parents]
    order = [page for group in likeness_of(pages).groups(16, 96) for page in group]
    families = [number % 12 for number in order]
    changes = sum(a != b for a, b in pairwise(families))
    assert changes < 20  # dealt out as they are, 119


def test_a_guests_memory_is_grouped_whole() -> None:
    pages = guest_pages(Random(8), 600)
    likeness = Likeness(700)
    likeness.add(b"".join(pages[:250]))
    likeness.add(b"".join(pages[250:]))
    assert len(likeness) == 600
    found = likeness.groups(16, 96)
    assert sorted(page for group in found for page in group) == list(range(600))


def test_what_is_no_page_or_too_much_is_refused() -> None:
    likeness = Likeness(1)
    with pytest.raises(ValueError, match="whole pages"):
        likeness.add(bytes(100))
    with pytest.raises(ValueError, match="room"):
        likeness.add(bytes(2 * PAGE))
    likeness.add(bytes(PAGE))
    for limits in ((0, 96), (65, 96), (16, 16), (64, 4), (16, 96, 257), (16, 96, 256, 0)):
        with pytest.raises(ValueError, match=r"groups|budget"):
            likeness.groups(*limits)
    with pytest.raises(IndexError):
        likeness.features(1)
    assert [list(group) for group in likeness.groups(16, 17)] == [[0]]
    assert Likeness(0).groups(16, 17) == []
