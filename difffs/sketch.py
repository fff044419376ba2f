"""Sketches: a few features of a page by which similar pages find each other.

The native kernels compute them (native/page.c); this names them.
"""

from enum import IntEnum


class Sketch(IntEnum):
    """Which features are taken."""

    NONE = 0
    MIN_HASH = 1
    """One-permutation min-hash (Li, Owen, Zhang, NIPS 2012) of the 32-byte windows at multiples
    of 8 bytes, four bins; windows of one repeated word say nothing and are skipped."""
    FIXED_BLOCKS = 2
    """HashSimilarityDetector(2,1) of Difference Engine (OSDI '08, section 4.2): two keys, each the
    hash of a 64-byte block at a fixed place."""
    TRANSFORMED_BLOCKS = 3
    """The same two keys, taken of MTF(BWT(page)) instead of the page."""

    @property
    def features(self) -> int:
        """The most features that a page has."""
        return {
            Sketch.NONE: 0,
            Sketch.MIN_HASH: 4,
            Sketch.FIXED_BLOCKS: 2,
            Sketch.TRANSFORMED_BLOCKS: 2,
        }[self]
