"""HashSimilarityDetector(k, s) of Difference Engine (Gupta and others, OSDI '08, section 4.2).

A page has k keys, each the hash of s blocks of 64 bytes at places that were drawn at random once
and are the same in all pages. The index keeps the first c pages with a key. All pages found by any
key are tried, and the best patch is taken. The paper chooses (2, 1) with c = 1: two keys, each of
one block, and no more than two pages to try.
"""

from __future__ import annotations

import random
from array import array
from functools import partial

from difffs.page import PAGE_SIZE
from difffs.study import _kernels
from difffs.study.detectors.detector import Detector

BLOCK_BYTES = 64

PRODUCT_PLACES = (1088, 2880)
"""Where the blocks of the recipe ``difference-engine`` lie (native/page.c)."""

_PLACES_SEED = 1


def places(count: int) -> array[int]:
    """Return so many places of blocks, the product's two first; blocks do not overlap."""
    others = [at for at in range(0, PAGE_SIZE, BLOCK_BYTES) if at not in PRODUCT_PLACES]
    random.Random(_PLACES_SEED).shuffle(others)
    return array("I", [*PRODUCT_PLACES, *others][:count])


def hash_similarity_detector(
    keys: int, blocks: int, candidates: int = 1, newest: bool = False
) -> Detector:
    """HashSimilarityDetector(k, s) with c candidates a key; `newest` keeps not the first pages
    with a key but the newest ones, as the recipe ``difference-engine`` does."""
    chosen = places(keys * blocks)
    name = f"({keys},{blocks}) c={candidates}"
    return Detector(
        name=f"{name} newest" if newest else name,
        family="keys of fixed blocks",
        width=keys,
        sketch=partial(_keys, chosen, keys),
        kept=candidates,
        newest=newest,
        candidates=keys * candidates,
    )


def _keys(chosen: array[int], keys: int, pages: bytes) -> array[int]:
    return _kernels.block_keys(pages, chosen, keys)
