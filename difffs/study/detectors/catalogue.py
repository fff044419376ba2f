"""The detectors and parameters that the study compares, in the order of its tables."""

from __future__ import annotations

from difffs.study.detectors.difference_engine import hash_similarity_detector
from difffs.study.detectors.min_hash import min_hash, product
from difffs.study.detectors.super_features import finesse, ntransform, odess

PAPER = hash_similarity_detector(2, 1)
"""What Difference Engine uses."""

PRODUCT = product()
"""What the default recipe uses."""

_ALL = (
    hash_similarity_detector(1, 1),
    hash_similarity_detector(1, 2),
    PAPER,
    hash_similarity_detector(2, 2),
    hash_similarity_detector(4, 1),
    hash_similarity_detector(4, 2),
    hash_similarity_detector(2, 1, candidates=4),
    hash_similarity_detector(2, 1, newest=True),
    ntransform(),
    finesse(),
    odess(),
    ntransform(grouped=1),
    odess(grouped=1),
    PRODUCT,
    product(candidates=2),
    min_hash(8),
    min_hash(16),
    min_hash(16, candidates=4),
    min_hash(32),
    min_hash(32, words=1),
    min_hash(32, words=1, candidates=4),
)

DETECTORS = {detector.name: detector for detector in _ALL}
