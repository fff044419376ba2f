"""Swap areas in memory: a difffs store on tmpfs, a zram device."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from trial import swap

from benchmark import devices
from benchmark.host import occupied, own_memory
from benchmark.work import run_tool

PRIORITY = 32767
"""Above all other areas of the host."""


class Area(Protocol):
    """A swap area in use."""

    def memory(self) -> dict[str, int]:
        """Return the bytes of memory that keeping the data takes, everything counted."""


def difffs_obstacle() -> str | None:
    """Say why there can be no swap to difffs, or None."""
    return devices.loop_obstacle() or swap.obstacle()


def zram_obstacle() -> str | None:
    """Say why there can be no swap to zram, or None."""
    return devices.zram_obstacle() or swap.obstacle()


class NoArea:
    """Nothing is swapped."""

    def __enter__(self) -> NoArea:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to undo."""

    def memory(self) -> dict[str, int]:
        """Nothing is kept anywhere else."""
        return {}


class ZramArea:
    """A zram device with lzo-rle, the kernel's default."""

    def __init__(self, size: int) -> None:
        self._zram = devices.Zram(size)
        self._stack = ExitStack()

    def __enter__(self) -> ZramArea:
        with ExitStack() as stack:
            path = stack.enter_context(self._zram).path
            run_tool("mkswap", path)
            run_tool("swapon", "--discard", "--priority", str(PRIORITY), path)
            stack.callback(run_tool, "swapoff", path)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def memory(self) -> dict[str, int]:
        """What the kernel says that the device takes."""
        return {"device": self._zram.memory()}


class DifffsArea:
    """``difffs swapon`` as it is."""

    def __init__(self, store: Path, size: int) -> None:
        self._store = store
        self._size = size

    def _difffs(self, command: str, *words: str) -> None:
        run_tool(sys.executable, "-m", "difffs", command, self._store, *words)

    def __enter__(self) -> DifffsArea:
        self._difffs("swapon", "--size", str(self._size), "--priority", str(PRIORITY))
        return self

    def __exit__(self, *_: object) -> None:
        self._difffs("swapoff")
        shutil.rmtree(self._store)

    def memory(self) -> dict[str, int]:
        """The daemon, its buffer and libraries included, and the store on tmpfs."""
        note = (self._store / "lock").read_text().split()
        daemon = int(note[note.index("process") + 1])
        return {"daemon": own_memory(daemon, self._store), "store": occupied(self._store)}
