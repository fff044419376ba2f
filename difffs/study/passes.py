"""Passes: the unit of work of a study. A pass is a function of some images and parameters, and its
result is kept in the cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from difffs.study.cache import Cache, Result
from difffs.study.corpus import Image

PassFunction = Callable[[Sequence[Image], Path, Mapping[str, Any]], Result]
"""(images, an empty folder for stores and temporary files, parameters) -> result. The top-level
function of a module, as it is called by its name in another process."""


@dataclass(frozen=True)
class Pass:
    """A unit of work whose result is cached."""

    name: str
    version: int
    """Counts up whenever the function's results change."""
    function: PassFunction
    images: tuple[Image, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = False
    """Measures times: runs with nothing else beside it."""
    large: bool = False
    """Fills its folder with about as many bytes as the images have: so does this one, since that
    folder most often lies in memory."""

    @property
    def alone(self) -> bool:
        """Whether it runs with nothing else beside it."""
        return self.timed or self.large

    @property
    def key(self) -> str:
        """The cache's name of the result."""
        return Cache.key(self.name, self.version, self.images, self.parameters)


def make(work: Pass, cache: Cache, scratch: Path) -> None:
    """Make a pass in this process, with an empty folder in `scratch`, and keep its result."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        result = work.function(work.images, Path(folder), work.parameters)
    cache.put(work.key, result)
