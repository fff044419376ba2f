"""How a batch is cut for several workers: the same work for each, not the same pages."""

from itertools import pairwise
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs._kernels import Batch, DigestTable, SketchTable, digest
from difffs.recipe import RECIPES
from tests.pages import PAGE, compressible_page

EMPTY = (DigestTable(bytearray(4096)), SketchTable(bytearray(4096)))


def proposed(pages: list[bytes]) -> Batch:
    batch = Batch(RECIPES["default"])
    batch.begin(b"".join(pages))
    batch.classify(0, batch.count)
    batch.propose(*EMPTY)
    return batch


def page(kind: int) -> bytes:
    """Zeros, one word, one of ten texts, or a text of its own."""
    if kind < 2:
        return (b"\0" if kind == 0 else b"\x55") * PAGE
    return compressible_page(Random(kind))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3) | st.integers(4, 12) | st.integers(13), min_size=1, max_size=60),
    st.integers(1, 5),
)
@example([0] * 40, 3)
@example([0] * 30 + list(range(100, 130)), 2)
@example([7], 4)
def test_every_slice_has_as_many_pages_to_encode(kinds: list[int], count: int) -> None:
    bounds = proposed([page(kind) for kind in kinds]).slices(count)
    assert bounds[0] == 0
    assert bounds[-1] == len(kinds)
    assert bounds == sorted(bounds)
    assert len(bounds) == count + 1
    work = [kind > 1 and kind not in kinds[:place] for place, kind in enumerate(kinds)]
    shares = [sum(work[start:end]) for start, end in pairwise(bounds)]
    assert max(shares) - min(shares) <= 1


def test_pages_that_a_stored_one_may_equal_are_little_work() -> None:
    pages = [page(kind) for kind in range(20, 30)]
    batch = proposed(pages)
    digests = DigestTable(bytearray(4096))
    for place, known in enumerate(pages[:5]):
        digests.insert(digest(known) & 0xFFFFFFFF, 257 + place)
    batch.propose(digests, EMPTY[1])
    assert batch.slices(1) == [0, 10]
    assert batch.slices(2) == [0, 8, 10], "three of the last five before, two behind"
