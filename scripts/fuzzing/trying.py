"""Runs a target's inputs, within bounds of time and memory, and keeps what is found."""

import resource
import signal
import struct
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Self

from fuzzing.oracle import Violation
from fuzzing.outcomes import Outcome, Result
from fuzzing.store_target import StoreTarget
from fuzzing.targets import Target

MOST_SECONDS = 1.0
"""Of processor time for one input."""
MOST_MEMORY = 256 << 20
"""Bytes of address space that may come on top of what a process has before it begins."""

_HANG_SECONDS = 30.0
_ARMED_EVERY = 128
_COUNTED_EVERY = 500


class Counts(NamedTuple):
    """What came of a number of runs."""

    runs: int = 0
    accepted: int = 0
    damaged: int = 0
    other_format: int = 0
    not_here: int = 0
    findings: int = 0
    slowest: float = 0.0
    """Seconds of processor time."""
    seconds: float = 0.0
    """Of processor time in all."""

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(
            self.runs + other.runs,
            self.accepted + other.accepted,
            self.damaged + other.damaged,
            self.other_format + other.other_format,
            self.not_here + other.not_here,
            self.findings + other.findings,
            max(self.slowest, other.slowest),
            self.seconds + other.seconds,
        )

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What a process has written down last."""
        try:
            return cls._make(_COUNTS.unpack((folder / "counts").read_bytes()))
        except OSError:
            return cls()


_COUNTS = struct.Struct("<6Q2d")


def limit_memory() -> None:
    """From here on MOST_MEMORY more than now are refused: a MemoryError is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def begin(target: Target) -> None:
    """Gets a target ready, and bounds its memory; but for a store, which maps what it likes."""
    if isinstance(target, StoreTarget):
        target.prepare()
    else:
        limit_memory()


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise Violation(f"takes more than {_HANG_SECONDS:.0f} seconds")


class Trying:
    """Tries inputs of one target. What is found lies in a folder afterwards, for each place in the
    code one: PLACE.input and PLACE.report."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.runs = 0
        self.found: set[str] = set()
        self._folder = folder
        self._outcomes: Counter[Outcome] = Counter()
        self._slowest = 0.0
        self._began = time.process_time()

    def arm(self) -> None:
        """Has inputs that take forever found. In the main thread only."""
        signal.signal(signal.SIGPROF, _hangs)
        signal.setitimer(signal.ITIMER_PROF, _HANG_SECONDS)

    def run(self, data: bytes) -> Result | None:
        """Tries one input; None for a finding."""
        self.runs += 1
        if self.runs % _ARMED_EVERY == 0 and signal.getitimer(signal.ITIMER_PROF)[0]:
            signal.setitimer(signal.ITIMER_PROF, _HANG_SECONDS)
        start = time.process_time()
        try:
            result = self.target.run(data)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            self._keep(f"{type(error).__name__}-{last.name}-{last.lineno}", data)
            return None
        self._outcomes[result[0]] += 1
        took = time.process_time() - start
        if took > self._slowest:
            self._slowest = took
            if took > MOST_SECONDS:
                self._keep("slow", data, f"{took:.1f} seconds")
        if self.runs % _COUNTED_EVERY == 0:
            self.write_counts()
        return result

    @property
    def counts(self) -> Counts:
        """What came of the runs so far."""
        return Counts(
            self.runs,
            self._outcomes[Outcome.ACCEPTED],
            self._outcomes[Outcome.DAMAGED],
            self._outcomes[Outcome.NOT_ITS],
            self._outcomes[Outcome.ELSE],
            len(self.found),
            self._slowest,
            time.process_time() - self._began,
        )

    def write_counts(self) -> None:
        """For the process that has begun this one."""
        (self._folder / "counts").write_bytes(_COUNTS.pack(*self.counts))

    def _keep(self, place: str, data: bytes, report: str | None = None) -> None:
        if place not in self.found:
            self.found.add(place)
            (self._folder / f"{place}.input").write_bytes(data)
            (self._folder / f"{place}.report").write_text(report or traceback.format_exc())
