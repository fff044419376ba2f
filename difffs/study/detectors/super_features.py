"""Super-features: features that estimate resemblance (Broder, 1997), hashed together in groups.

A feature is the largest of the linearly transformed hashes of all windows of a page; two pages
share one with the probability of their windows' overlap. A super-feature is the hash of four
features and is only shared when all four are, so that one in common means a similar page.

- N-transform: Rabin fingerprints, twelve transforms, three super-features of four (Shilane and
  others, "WAN optimized replication of backup datasets using stream-informed delta compression",
  FAST '12).
- Finesse: no transforms, one feature for each twelfth of the page (Zhang and others, FAST '19).
- Odess: gear hashes instead of Rabin's, and only one in 128 of them, chosen by content, is
  transformed (Zou and others, "Odess: speeding up resemblance detection for redundancy elimination
  by fast content-defined sampling", ICDE '21).

With groups of one feature, pages are found by votes of twelve features.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial

from difffs.study import _kernels
from difffs.study.detectors.detector import Detector

FEATURES = 12
GROUPED = 4


def ntransform(grouped: int = GROUPED) -> Detector:
    """N-transform, with so many features in a super-feature."""
    return _detector("N-transform", grouped, partial(_ntransform, grouped))


def odess(grouped: int = GROUPED) -> Detector:
    """Odess, with so many features in a super-feature."""
    return _detector("Odess", grouped, partial(_odess, grouped))


def finesse() -> Detector:
    """Finesse: three super-features of four."""
    return _detector("Finesse", GROUPED, _kernels.finesse_features)


def _detector(name: str, grouped: int, sketch: Callable[[bytes], array[int]]) -> Detector:
    width = FEATURES // grouped
    family = "features of rolling hashes" if grouped == 1 else "super-features"
    return Detector(f"{name} {width} x {grouped}", family, width, sketch)


def _ntransform(grouped: int, pages: bytes) -> array[int]:
    return _kernels.ntransform_features(pages, grouped)


def _odess(grouped: int, pages: bytes) -> array[int]:
    return _kernels.odess_features(pages, grouped)
