"""What a section works with: the corpora, and passes over them that are cached and run in parallel.

A *pass* is a function of some images and parameters. It runs in a process of its own, so it must
be a module's top-level function, and its result must be JSON.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from difffs.errors import DifffsError, EnvironmentProblem
from difffs.signals import EndedBySignal
from difffs.study.cache import Cache, Result
from difffs.study.corpus import Corpus, Image
from difffs.study.worker import (
    ending_processes,
    ending_with_parent,
    leave_signals_to_parent,
    start_resource_tracker,
)

PassFunction = Callable[[Sequence[Image], Path, Mapping[str, Any]], Result]
"""(images, an empty folder for stores and temporary files, parameters) -> result."""


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


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pass could not be made on this host, in one line."""

    reason: str


@dataclass
class Context:
    """Handed to every section's run()."""

    corpora: Sequence[Corpus]
    cache: Cache
    scratch: Path
    """Room for stores and temporary files; a pass gets an own empty folder in it."""
    workers: int = 1
    sample: int = 3000
    """Real pairs, or pages, that slow measurements look at in each corpus."""
    seed: int = 1
    recordings: Sequence[Path] = ()
    """Running guests, recorded by scripts/record-guest."""
    progress: Callable[[str, int, int], None] = lambda _name, _done, _count: None
    """Told (what, passes done, passes in all)."""

    def results(self, passes: Sequence[Pass]) -> list[Result]:
        """Return the results in order, from the cache or made now and kept there.

        An exception in a pass ends the study, the results made so far stay in the cache.
        """
        found = [self.cache.get(p.key) for p in passes]
        missing = [i for i, result in enumerate(found) if result is None]
        done = len(passes) - len(missing)
        for alone in (False, True):
            chosen = [i for i in missing if passes[i].alone is alone]
            if not chosen:
                continue
            # a process for each pass: what it needed is given back, and the peak is its own
            with _processes(1 if alone else self.workers) as pool:
                futures = {pool.submit(_run, passes[i], self.scratch): i for i in chosen}
                try:
                    for future in as_completed(futures):
                        index = futures[future]
                        result = future.result()
                        self.cache.put(passes[index].key, result)
                        found[index] = result
                        done += 1
                        self.progress(passes[index].name, done, len(passes))
                except BrokenProcessPool:
                    raise EnvironmentProblem(
                        "a process of the study was killed; if memory was short, try --workers 1 or"
                        " a --scratch on a disk: what was found so far is kept"
                    ) from None
        return [result for result in found if result is not None]

    def attempts(self, what: str, passes: Sequence[Pass]) -> list[Result | Failure]:
        """As results(), for passes that a host may not be able to make: one after the other, alone
        on the machine, and where one fails for the host's sake, its reason in place of its result.

        Failures are not kept in the cache: another time the host may be able to.
        """
        found: list[Result | Failure] = []
        for work in passes:
            result = self.cache.get(work.key)
            found.append(self._attempt(work) if result is None else result)
            self.progress(what, len(found), len(passes))
        return found

    def _attempt(self, work: Pass) -> Result | Failure:
        try:
            with _processes(1) as pool:
                result = pool.submit(_run, work, self.scratch).result()
        except (DifffsError, OSError, subprocess.SubprocessError) as error:
            return Failure(" ".join(str(error).split()) or type(error).__name__)
        except BrokenProcessPool:
            return Failure("its process was killed, as when memory is short")
        self.cache.put(work.key, result)
        return result

    def each_corpus(
        self,
        name: str,
        version: int,
        function: PassFunction,
        timed: bool = False,
        **parameters: Any,
    ) -> dict[str, Result]:
        """Run one pass on each corpus; the results by corpus name."""
        passes = [
            Pass(name, version, function, corpus.images, parameters, timed)
            for corpus in self.corpora
        ]
        names = [corpus.name for corpus in self.corpora]
        return dict(zip(names, self.results(passes), strict=True))

    def each_image(
        self,
        name: str,
        version: int,
        function: PassFunction,
        timed: bool = False,
        **parameters: Any,
    ) -> dict[str, list[Result]]:
        """Run one pass on each image; lists of results, to be merged, by corpus name."""
        passes = [
            Pass(name, version, function, (image,), parameters, timed)
            for corpus in self.corpora
            for image in corpus.images
        ]
        results = iter(self.results(passes))
        return {corpus.name: [next(results) for _ in corpus.images] for corpus in self.corpora}


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
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


def _run(work: Pass, scratch: Path) -> Result:
    with ending_with_parent(), tempfile.TemporaryDirectory(dir=scratch) as folder:
        return work.function(work.images, Path(folder), work.parameters)
