"""Rounds of one life of a swap area: swapon, a process that needs more memory than it has, its end,
swapoff, check.

What must hold: the process reads every page as it wrote it; once it has ended, the store has no
page but those that the kernel still has in use or cannot give back; the store is clean. Other
processes of the host may be swapped to the area as well: they are counted, and not judged.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trial import swap
from trial.cgroup import MemoryCgroup
from trial.held_hog import HeldHog

from difffs.mount.live import read_statistics
from difffs.mount.write_back import commit
from tests.integration.harness import difffs

PAGE = 4096
CLUSTER = 512
"""Slots that the kernel discards together: when all of them are free."""
NEAR_EMPTY = 0.05
"""What may be left of what the store held, of the kernel's own accord."""
_HEADER = 1
"""Pages of an area that nobody uses."""
_PRIORITY = 32767
_SETTLING_SECONDS = 20.0
_STABLE_SECONDS = 2.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """The store at a moment, everything committed."""

    pages: int
    payload: int
    slack: int
    metadata: int

    @property
    def stored(self) -> int:
        """Bytes of all its files."""
        return self.payload + self.slack + self.metadata


@dataclass(slots=True)
class Round:
    """What a round did, in pages and bytes."""

    number: int
    empty: Look
    full: Look
    """While the process held its memory."""
    left: Look
    """When it had ended, and the kernel had discarded what it does."""
    in_use: int
    """Pages in use on the area then, of other processes."""
    swapped: int
    """Bytes in use on the area while the process held its memory."""
    verified: int
    after: int
    """Bytes of the store when it was closed."""
    seconds: float
    faults: list[str] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Pages that nobody uses any more, and that the kernel did not discard."""
        return max(0, self.left.pages - _HEADER - self.in_use)

    @property
    def undisturbed(self) -> bool:
        """Whether nobody else was swapped to the area at the end."""
        return self.in_use == 0

    @property
    def left_share(self) -> float:
        """What is left of payloads and slack, of what there was at most."""
        grown = self.full.payload + self.full.slack - self.empty.payload - self.empty.slack
        return (self.left.payload + self.left.slack - self.empty.payload - self.empty.slack) / grown

    @property
    def metadata_share(self) -> float:
        """What is left of index and tables, of all that the store grew by."""
        grown = self.full.stored - self.empty.stored
        return (self.left.metadata - self.empty.metadata) / grown

    def judge(self, swapped_at_least: int) -> None:
        """Note what does not hold."""
        if self.full.pages * PAGE < swapped_at_least:
            self.faults.append(f"only {self.full.pages} pages were in the store: it tried nothing")
        if self.held > (CLUSTER - 1) * self.in_use:
            self.faults.append(
                f"{self.held} pages are left that nobody uses, and only {self.in_use} are in use"
            )
        if self.undisturbed and self.left_share > NEAR_EMPTY:
            self.faults.append(f"{self.left_share:.1%} of payloads and slack are left")

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **asdict(self),
            "held": self.held,
            "left_share": round(self.left_share, 4),
            "metadata_share": round(self.metadata_share, 4),
        }


def _look(mountpoint: str) -> Look:
    commit(mountpoint)
    found = read_statistics(mountpoint)
    sizes = found["bytes"]
    return Look(found["pages"]["total"], sizes["payload"], sizes["slack"], sizes["metadata"])


def _settled(mountpoint: str, device: str) -> tuple[Look, int]:
    """Wait until all is gone that nobody uses, or nothing more goes; what is left, what in use."""
    began = changed = time.monotonic()
    left, in_use = _look(mountpoint), swap.used_of(device) // PAGE
    while left.pages > _HEADER + in_use and changed - began < _SETTLING_SECONDS:
        time.sleep(_LOOK_SECONDS)
        earlier = left.pages, in_use
        left, in_use = _look(mountpoint), swap.used_of(device) // PAGE
        now = time.monotonic()
        if earlier != (left.pages, in_use):
            changed = now
        elif now - changed > _STABLE_SECONDS:
            break
    return left, in_use


def try_round(store: Path, number: int, mebibytes: int, resident: int) -> Round:
    """Go through one round with a process of so many MiB that may have `resident` of them.

    ``HogError`` when it finds a wrong page or is killed; AssertionError of a command that failed,
    as of a check that found something. The area is gone in any case.
    """
    began = time.monotonic()
    on = difffs(
        "swapon", store, "--size", f"{4 * mebibytes}M", "--priority", str(_PRIORITY), "--json"
    )
    area = json.loads(on.stdout)
    mountpoint, device = area["mountpoint"], area["device"]
    try:
        empty = _look(mountpoint)
        with (
            MemoryCgroup(f"difffs-endurance-{os.getpid()}", resident << 20) as group,
            HeldHog(group, mebibytes, rounds=2, seed=number) as hog,
        ):
            verified = hog.verified()
            full, swapped = _look(mountpoint), swap.used_of(device)
            verified += hog.finish()
        left, in_use = _settled(mountpoint, device)
    finally:
        difffs("swapoff", store)
    report = json.loads(difffs("check", store, "--json").stdout)
    after = json.loads(difffs("stats", store, "--json").stdout)
    found = Round(
        number, empty, full, left, in_use, swapped, verified, after["bytes"]["stored"],
        round(time.monotonic() - began, 3),
    )  # fmt: skip
    found.judge((mebibytes - resident) << 19)
    if not report["clean"]:
        found.faults.append(f"check: {report}")
    if after["pages"]["total"]:
        found.faults.append(f"{after['pages']['total']} pages are left behind swapoff")
    return found


@dataclass(slots=True)
class Report:
    """All rounds."""

    rounds: list[Round] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, one: Round) -> None:
        """Note a round."""
        self.rounds.append(one)
        self.faults += [f"round {one.number}: {fault}" for fault in one.faults]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "seconds": round(self.seconds, 1),
            "faults": self.faults,
            "rounds": [one.as_json() for one in self.rounds],
        }

    def text(self) -> str:
        """For people."""
        lines = [f"swap: {len(self.rounds)} rounds in {self.seconds:.0f} s"]
        if self.rounds:
            verified = sum(one.verified for one in self.rounds)
            swapped = sum(one.swapped for one in self.rounds) / len(self.rounds) / 2**20
            full = sum(one.full.stored for one in self.rounds) / len(self.rounds) / 2**20
            last = self.rounds[-1].after
            alone = [one for one in self.rounds if one.undisturbed]
            shared = [one for one in self.rounds if not one.undisturbed]
            lines += [
                f"  {verified:,} pages verified; in the mean {swapped:.0f} MiB swapped out,"
                f" {full:.1f} MiB stored; closed, the store has {self.rounds[0].after:,} bytes"
                f" after the first round, {last:,} after the last",
                self._left(alone, "of this process alone"),
                self._left(shared, "shared with others"),
            ]
        return "\n".join(lines + [f"  VIOLATION: {fault}" for fault in self.faults[:20]])

    @staticmethod
    def _left(rounds: list[Round], whose: str) -> str:
        if not rounds:
            return f"  0 rounds with an area {whose}"
        return (
            f"  {len(rounds)} rounds with an area {whose}: when it had ended, at most"
            f" {max(one.left_share for one in rounds):.2%} of payloads and slack were left,"
            f" {max(one.left.pages for one in rounds):,} pages, of which"
            f" {max(one.in_use for one in rounds):,} in use and {max(one.held for one in rounds):,}"
            f" free but held by the kernel; index and tables, which keep their size until swapoff,"
            f" {max(one.metadata_share for one in rounds):.1%} of all"
        )
