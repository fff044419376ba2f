"""What a section works with: the corpora, and passes over them that are cached and made by an
executor: in processes of this machine, or on a cluster.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from difffs.errors import DifffsError
from difffs.study.cache import Cache, Result
from difffs.study.corpus import Corpus
from difffs.study.executors.executor import Executor
from difffs.study.executors.processes import PassKilled, Processes
from difffs.study.passes import Pass, PassFunction


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
    executor: Executor = field(default_factory=lambda: Processes(1))
    """Makes the passes."""
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
        keys = [work.key for work in passes]
        found = {key: self.cache.get(key) for key in keys}
        missing = {key: work for key, work in zip(keys, passes, strict=True) if found[key] is None}
        times = Counter(keys)
        count = sum(times[key] for key, result in found.items() if result is not None)

        def done(work: Pass) -> None:
            nonlocal count
            found[work.key] = self.cache.require(work.key)
            count += times[work.key]
            self.progress(work.name, count, len(passes))

        if missing:
            self.executor.run(list(missing.values()), self.cache, self.scratch, done)
        return [result for key in keys if (result := found[key]) is not None]

    def attempts(self, what: str, passes: Sequence[Pass]) -> list[Result | Failure]:
        """As results(), for passes that a host may not be able to make: on this one whoever makes
        others, one after the other, alone on the machine, and where one fails for the host's sake,
        its reason in place of its result.

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
            Processes(1).run([work], self.cache, self.scratch, lambda _work: None)
        except PassKilled:
            return Failure("its process was killed, as when memory is short")
        except (DifffsError, OSError, subprocess.SubprocessError) as error:
            return Failure(" ".join(str(error).split()) or type(error).__name__)
        return self.cache.require(work.key)

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
