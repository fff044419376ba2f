"""Synthetic pairs of pages, alike as real ones are and in the ways that patchers care about."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from difffs.study.pairs import Pair
from tests.pages import compressible_page, random_page, shifted_page, similar_page


def make_pairs(seed: int) -> list[Pair]:
    """Pairs alike in several ways, and every third of them not at all."""
    random = Random(seed)
    pairs = []
    for number in range(12):
        base = compressible_page(random)
        page = [
            similar_page(base, random, random.choice([1, 30, 300])),
            shifted_page(base, random),
            random_page(random),
        ][number % 3]
        pairs.append(Pair(page, base))
    return pairs


def joined(pairs: Sequence[Pair]) -> tuple[bytes, bytes]:
    """The pages one behind the other, and the bases."""
    return b"".join(pair.page for pair in pairs), b"".join(pair.base for pair in pairs)
