"""Passes in processes of this machine, a process each: what a pass needed is given back, its peak
memory is its own, and a crash costs one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.signals import EndedBySignal
from difffs.study.cache import Cache
from difffs.study.passes import Pass, make
from difffs.study.worker import (
    ending_processes,
    ending_with_parent,
    leave_signals_to_parent,
    start_resource_tracker,
)


class PassKilled(EnvironmentProblem):
    """The process of a pass was killed, as the kernel does where memory is short."""


class Processes:
    """An Executor: up to `count` passes at once."""

    def __init__(self, count: int) -> None:
        """Keep how many."""
        self.count = count

    def run(
        self, passes: Sequence[Pass], cache: Cache, scratch: Path, done: Callable[[Pass], None]
    ) -> None:
        """As Executor.run(). PassKilled when a pass was killed."""
        for alone in (False, True):
            chosen = [work for work in passes if work.alone is alone]
            if not chosen:
                continue
            with _pool(1 if alone else self.count) as pool:
                futures = {pool.submit(_make, work, cache, scratch): work for work in chosen}
                try:
                    for future in as_completed(futures):
                        future.result()
                        done(futures[future])
                except BrokenProcessPool:
                    raise PassKilled(
                        "a process of the study was killed; if memory was short, try --workers 1 or"
                        " a --scratch on a disk: what was found so far is kept"
                    ) from None

    def machines(self) -> list[dict[str, Any]]:
        """As Executor.machines()."""
        return []


@contextmanager
def _pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes; those at work end with a study that is interrupted."""
    start_resource_tracker()
    pool = ProcessPoolExecutor(
        count, get_context("spawn"), initializer=leave_signals_to_parent, max_tasks_per_child=1
    )
    try:
        yield pool
    except (KeyboardInterrupt, EndedBySignal):
        with ending_processes():
            pool.shutdown(cancel_futures=True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _make(work: Pass, cache: Cache, scratch: Path) -> None:
    with ending_with_parent():
        make(work, cache, scratch)
