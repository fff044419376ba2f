"""One-permutation min-hash (Li, Owen and Zhang, NIPS 2012): the product's sketch, and richer ones.

The windows of a page, one at each multiple of 8 bytes, fall into bins by their hash, and the
smallest hash of each bin is a feature. Windows of one repeated word are left out.
"""

from __future__ import annotations

from array import array
from functools import partial

from difffs.sketch import Sketch
from difffs.study import _kernels
from difffs.study.detectors.detector import Detector

FAMILY = "min-hash"
WORD_BYTES = 8


def product(candidates: int = 1) -> Detector:
    """The default recipe's sketch: four bins, windows of 32 bytes."""
    return Detector(
        _name("min-hash 4 (product)", candidates),
        FAMILY,
        Sketch.MIN_HASH.features,
        partial(_kernels.product_sketches, Sketch.MIN_HASH),
        candidates=candidates,
    )


def min_hash(bins: int, words: int = 4, candidates: int = 1) -> Detector:
    """So many bins, of windows of so many words of 8 bytes."""
    name = f"min-hash {bins}" if words == 4 else f"min-hash {bins} of {words * WORD_BYTES} bytes"
    return Detector(
        _name(name, candidates),
        FAMILY,
        bins,
        partial(_features, bins, words),
        candidates=candidates,
    )


def _name(name: str, candidates: int) -> str:
    return name if candidates == 1 else f"{name} with {candidates} tries"


def _features(bins: int, words: int, pages: bytes) -> array[int]:
    return _kernels.min_hash_features(pages, words, bins)
