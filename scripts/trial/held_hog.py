"""The memory-hungry process in a group that has less memory than it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Self

from trial import hog
from trial.cgroup import MemoryCgroup


class HogError(Exception):
    """The hog found a page that is not what it was, or was killed; the text says which."""


class HeldHog:
    """Fills its memory, verifies and rewrites it, and holds it until it is told to finish.

    Leaving the context ends it, whatever it does.
    """

    def __init__(self, group: MemoryCgroup, mebibytes: int, rounds: int, seed: int = 1) -> None:
        """Of so many MiB, in which it goes through all pages so many times."""
        self._group = group
        self._words = ["--hold", str(mebibytes), str(rounds), str(seed)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, hog.__file__, *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self._group.enter,
            start_new_session=True,  # Ctrl-C is for us, and we end it
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def verified(self) -> int:
        """Wait until it holds its memory; return how many pages it has verified. ``HogError``."""
        return self._told()

    def finish(self) -> int:
        """Have it verify every page once more and end; return how many. ``HogError``."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        verified = self._told()
        self._process.stdin = None
        if status := self._process.wait(600):
            raise HogError(f"the hog ended with status {status}")
        return verified

    def _told(self) -> int:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip()
            raise HogError(f"the hog ended with status {self._process.wait()}: {said}")
        verified: int = json.loads(line)["pages_verified"]
        return verified
