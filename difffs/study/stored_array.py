"""Arrays of results: each in a file of its own, read when and as far as somebody looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file of numpy's format, of which no descriptor is kept: a thousand images have
    thousands."""

    path: Path
    length: int
    """Of its first dimension."""

    @classmethod
    def find(cls, path: Path) -> StoredArray:
        """Describe a file. OSError or ValueError when it is not there or cut short."""
        array = _mapped(path)
        return cls(path, len(array))

    def mapped(self) -> Array:
        """Return the array, mapped: keep what is needed as a copy."""
        return _mapped(self.path)


def _mapped(path: Path) -> Array:
    array: Array = numpy.load(path, mmap_mode="r", allow_pickle=False)
    return array


ArrayLike = Array | StoredArray
"""As a pass has made it, or as it comes back from the cache."""


def opened(array: ArrayLike) -> Array:
    """Return an array that may be stored."""
    return array.mapped() if isinstance(array, StoredArray) else array


def length(array: ArrayLike) -> int:
    """Return how long an array is, without looking into it."""
    return array.length if isinstance(array, StoredArray) else len(array)
