"""What makes passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from difffs.study.cache import Cache
from difffs.study.passes import Pass


class Executor(Protocol):
    """Makes passes in any order, and keeps their results in the cache."""

    def run(
        self, passes: Sequence[Pass], cache: Cache, scratch: Path, done: Callable[[Pass], None]
    ) -> None:
        """Make passes, which have different keys; `done` is told each when its result is in the
        cache.

        `scratch` is a folder for their own folders, on this machine. Those that want to be alone
        are alone on theirs. An exception in a pass ends it; what else is made by then stays in the
        cache.
        """

    def machines(self) -> list[dict[str, Any]]:
        """Return describe_machine() of those that passes are made on where they are not this
        process's own, each with its number of `workers`."""
