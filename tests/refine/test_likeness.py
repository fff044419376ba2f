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


@given(st.integers(0, 2**32), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_the_order_is_the_twins(seed: int, count: int) -> None:
    pages = mixture(seed, count)
    likeness = likeness_of(pages)
    assert [likeness.features(i) for i in range(count)] == [
        likeness_oracle.features(page) for page in pages
    ]
    assert list(likeness.order(0, count)) == likeness_oracle.order(pages)


def test_a_part_is_ordered_by_itself() -> None:
    pages = mixture(5, 90)
    part = likeness_of(pages).order(30, 80)
    assert [number - 30 for number in part] == likeness_oracle.order(pages[30:80])


def test_pages_of_a_kind_come_together() -> None:
    """Twelve families of ten, dealt out like cards."""
    random = Random(3)
    parents = [compressible_page(random) for _ in range(12)]
    pages = [similar_page(parent, random) for _ in range(10) for parent in parents]
    order = likeness_of(pages).order(0, len(pages))
    families = [number % 12 for number in order]
    changes = sum(a != b for a, b in pairwise(families))
    assert changes < 20  # dealt out as they are, 119


def test_a_guests_memory_is_ordered_whole() -> None:
    pages = guest_pages(Random(8), 600)
    likeness = Likeness(700)
    likeness.add(b"".join(pages[:250]))
    likeness.add(b"".join(pages[250:]))
    assert len(likeness) == 600
    assert sorted(likeness.order(0, 600)) == list(range(600))


def test_what_is_no_page_or_too_much_is_refused() -> None:
    likeness = Likeness(1)
    with pytest.raises(ValueError, match="whole pages"):
        likeness.add(bytes(100))
    with pytest.raises(ValueError, match="room"):
        likeness.add(bytes(2 * PAGE))
    likeness.add(bytes(PAGE))
    for first, end in ((0, 2), (1, 0)):
        with pytest.raises(IndexError):
            likeness.order(first, end)
    with pytest.raises(IndexError):
        likeness.features(1)
    assert list(likeness.order(1, 1)) == []
