"""Trials of damage: each in a process of its own, bounded in time, and repeatable by its number."""

import os
import shutil
import signal
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.endurance.damage import aged_store, at_rest
from tests.endurance.damage.aged_store import AgedStore
from tests.endurance.damage.damages import damage
from tests.endurance.damage.mounted import judge_mounted
from tests.stores import scratch

SECONDS = 120
"""Longer than that, and a trial hangs."""

_OUTCOMES = ("right", "found", "unread")
_FAILED = 100
_HUNG = 101
_STORES = 12
"""Stores with different pasts that the trials take turns with."""


@dataclass(slots=True)
class Totals:
    """What came of the trials."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def trials(self) -> int:
        """How many there were."""
        return self.outcomes.total()

    def as_json(self) -> dict[str, object]:
        """As plain values."""
        return {
            "trials": self.trials,
            "outcomes": dict(self.outcomes),
            "failures": self.failures,
            "seconds": round(self.seconds, 1),
        }

    def text(self) -> str:
        """In a line."""
        outcomes = ", ".join(f"{count:,} {name}" for name, count in self.outcomes.most_common())
        return f"damage: {self.trials:,} trials in {self.seconds:,.0f} s: {outcomes or 'none'}"


class Trials:
    """Runs trials, and keeps the stores of those that fail."""

    def __init__(self, seed: int, keep: Path, say: Callable[[str], None]) -> None:
        self._seed = seed
        self._keep = keep
        self._say = say
        self._stores: dict[int, AgedStore] = {}
        self.totals = Totals()

    def run(self, first: int, end: int, *, mounted: float) -> None:
        """Trials [first, end), a share of them under a live mount."""
        began = told = time.monotonic()
        for number in range(first, end):
            self._one(number, mounted)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                self.totals.seconds = told - began
                self._say(self.totals.text())
        self.totals.seconds = time.monotonic() - began

    def _aged(self, number: int) -> AgedStore:
        which = number % _STORES
        if which not in self._stores:
            with scratch() as folder:
                self._stores[which] = aged_store.make(folder / "store", 1000 * self._seed + which)
        return self._stores[which]

    def _one(self, number: int, mounted: float) -> None:
        aged = self._aged(number)
        random = Random(f"{self._seed}/{number}")
        live = random.random() < mounted
        with scratch() as folder:
            store = folder / "store"
            aged.put(store)
            log = folder / "how"
            child = os.fork()
            if child == 0:
                os.setsid()  # with what it mounts, so that none of it outlives the limit
                os._exit(_in_child(random, store, aged, log, live=live))
            outcome = _ended(child)
            if live:  # whatever is left of it; asking a dead mount whether it is one is an error
                command = ["umount", "-l", str(folder / "mount")]
                subprocess.run(command, check=False, capture_output=True)
            if outcome in range(len(_OUTCOMES)):
                name = _OUTCOMES[outcome]
                self.totals.outcomes[f"{name} mounted" if live else name] += 1
                return
            self.totals.outcomes["failed"] += 1
            self._failed(number, outcome, folder, aged, log)

    def _failed(self, number: int, outcome: int, folder: Path, aged: AgedStore, log: Path) -> None:
        kept = self._keep / f"seed-{self._seed}-trial-{number}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        shutil.copytree(folder / "store", kept / "store", dirs_exist_ok=True)
        aged.put(kept / "before-it")
        how = log.read_text() if log.exists() else ""
        reason = how.strip().splitlines()[-1] if how.strip() else ""
        if outcome == _HUNG:
            reason = f"no end within {SECONDS} s"
        elif outcome < 0:
            reason = f"ended by signal {-outcome}"
        (kept / "how").write_text(f"{how}\n{reason}\n")
        text = f"trial {number} of seed {self._seed}: {reason} (kept in {kept})"
        self.totals.failures.append(text)
        self._say(text)


def _in_child(random: Random, store: Path, aged: AgedStore, log: Path, *, live: bool) -> int:
    try:
        with log.open("w") as told:
            if live:
                outcome = judge_mounted(store, aged, random, told)
            else:
                told.write(f"{damage(random, store, aged)}\n")
                told.flush()
                outcome = at_rest.judge(store, aged, random)
        return _OUTCOMES.index(outcome)
    except BaseException:
        with log.open("a") as told:
            traceback.print_exc(file=told)
        return _FAILED


def _ended(child: int) -> int:
    """A process's exit status, negative for a signal; ended when it takes too long."""
    limit = time.monotonic() + SECONDS
    descriptor = os.pidfd_open(child)
    try:
        import select

        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, limit - time.monotonic()) * 1000):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return _HUNG
    finally:
        os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
