"""What a detector is: features of pages, and how pages are kept and chosen by them."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass

from difffs.study import _kernels


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds earlier pages that have features in common with a page."""

    name: str
    family: str
    """What the features are, for readers."""
    width: int
    """Features of a page."""
    sketch: Callable[[bytes], array[int]]
    """The features of pages that lie one behind the other: `width` for each page, 0 for those that
    a page lacks."""
    kept: int = 1
    """Pages that the index remembers for a feature."""
    newest: bool = True
    """Which they are: the newest ones, or the first."""
    candidates: int = 1
    """Pages tried at most: those to which most of a page's features lead."""

    def index(self) -> _kernels.FeatureIndex:
        """Return an empty index for its features."""
        return _kernels.FeatureIndex(self.width, self.kept, self.newest)
