"""One clone of the suspended small guest, then several at once; what they take of the host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suspending.actions import SCHEMA_VERSION, Clock, resume
from suspending.qemu import Memory
from suspending.trial import Options, Suspended, counted, make_suspended
from trial.guest import Guest
from trial.mounted_store import MountedStore

from cloning.clones import expect_suspended, go_on
from cloning.memory import ClonesMemory, clones_memory


@dataclass(frozen=True, slots=True)
class Cloned:
    """What was measured."""

    suspended: Suspended
    looks: list[ClonesMemory]
    """At one clone, and at all."""
    last: list[int]
    """What each clone has counted to."""
    seconds: dict[str, float]

    @property
    def ratio(self) -> float:
        """The memory of all clones by that of one, everything counted."""
        return self.looks[-1].used / self.looks[0].used

    @property
    def ratio_without_qemu(self) -> float:
        """Likewise, without what the QEMU processes take beside their guests' RAM."""
        return self.looks[-1].without_qemu / self.looks[0].without_qemu

    def as_json(self) -> dict[str, Any]:
        """All of it, with stable keys; bytes and seconds."""
        found = self.suspended
        return {
            "schema_version": SCHEMA_VERSION,
            "mebibytes": found.arguments["mebibytes"],
            "suspend": found.done.as_json(),
            "stored": found.statistics["bytes"]["stored"],
            "counted": {"before": found.last, "clones": self.last},
            "one": self.looks[0].as_json(),
            "all": self.looks[-1].as_json(),
            "ratio": round(self.ratio, 4),
            "ratio_without_qemu": round(self.ratio_without_qemu, 4),
            "seconds": {**found.seconds, **self.seconds},
        }


def run(options: Options, clones: int, folder: Path, say: Callable[[str], None]) -> Cloned:
    """Suspend the guest, start its clones, look at the host's memory; end the clones, and have the
    guest itself go on, whose memory they have not changed.

    ``GuestError``, ``CommandFailed``, ``DifffsError``, ``OSError``.
    """
    with MountedStore(folder) as mounted:
        found = make_suspended(options, mounted, folder, say)
        clock = Clock()
        with ExitStack() as running:
            looks, last = _clones(running, options, clones, found, say)
        clock.step("clones")
        with Guest("vm", **found.arguments, incoming=True) as one:
            resume(one.socket, found.state)
            counted(one, options.ticks, found.last, found.seen)
        clock.step("the guest itself")
        say("the guest itself went on from the same state: nothing of its RAM was changed")
        mounted.unmount()
        mounted.check()
    return Cloned(found, looks, last, clock.seconds)


def _clones(
    running: ExitStack,
    options: Options,
    clones: int,
    found: Suspended,
    say: Callable[[str], None],
) -> tuple[list[ClonesMemory], list[int]]:
    expect_suspended(found.arguments["memory"], found.state)
    guests: list[Guest] = []
    processes: list[int] = []
    memory: list[Memory] = []
    looks: list[ClonesMemory] = []
    last: list[int] = []
    for wanted in sorted({1, clones}):
        while len(guests) < wanted:
            one = running.enter_context(
                Guest(f"clone{len(guests) + 1}", **found.arguments, clone=True)
            )
            guests.append(one)
            process, memory = go_on(one, found.state)
            processes.append(process)
        last = [counted(one, options.ticks, found.last) for one in guests]
        looks.append(clones_memory(processes, memory))
        say(f"{wanted} of {clones} clones went on from {found.last}, and counted to {last}")
    last = [int(one.events()[-1].values["count"]) for one in guests]
    return looks, last
