"""Passes in this process, one after the other: nothing to start, and nothing given back.

The plainest of the executors, which others are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from difffs.study.cache import Cache
from difffs.study.passes import Pass, make


class ThisProcess:
    """An Executor."""

    def run(
        self, passes: Sequence[Pass], cache: Cache, scratch: Path, done: Callable[[Pass], None]
    ) -> None:
        """As Executor.run()."""
        for work in passes:
            make(work, cache, scratch)
            done(work)

    def machines(self) -> list[dict[str, Any]]:
        """As Executor.machines()."""
        return []
