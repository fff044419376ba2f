"""The small guest, suspended; its store is unmounted meanwhile. Both trials begin with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trial.guest import Event, Guest
from trial.mounted_store import MountedStore

from suspending.actions import SCHEMA_VERSION, Clock, Done, resume, suspend

WORK = "archive,copies,noise,fill"
"""What the guest keeps in its memory, and verifies at each tick."""

_BOOT_SECONDS = 300.0
_TICK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a trial is made."""

    mebibytes: int = 256
    ticks: int = 3
    """How often each guest has verified its memory before something is done or measured."""
    work: str = WORK
    accelerator: str = "auto"


@dataclass(frozen=True, slots=True)
class Suspended:
    """The guest, ended, its RAM in a store that was unmounted, checked and mounted again."""

    arguments: dict[str, Any]
    """Of a :class:`Guest` that goes on as this one."""
    state: Path
    last: int
    """The last count that it reported."""
    seen: int
    """Events on its console."""
    done: Done
    statistics: dict[str, Any]
    """Of the store, while it was not mounted."""
    seconds: dict[str, float]


def make_suspended(
    options: Options, mounted: MountedStore, folder: Path, say: Callable[[str], None]
) -> Suspended:
    """Boot the guest, let it work and count, suspend it, and unmount, check and mount the store.

    ``GuestError``, ``CommandFailed``, ``DifffsError``, ``OSError``.
    """
    arguments: dict[str, Any] = {
        "memory": mounted.mountpoint / "vm.mem",
        "folder": folder,
        "mebibytes": options.mebibytes,
        "accelerator": options.accelerator,
        "work": options.work,
        "end": "count",
    }
    state = folder / "vm.state"
    clock = Clock()
    with Guest("vm", **arguments) as one:
        say(f"a guest of {options.mebibytes} MiB boots ({one.chosen_accelerator()})")
        last = counted(one, options.ticks)
        clock.step("boot, work and count")
        say(f"it has worked, and counted to {last}: suspended")
        done = suspend(one.socket, state)
        assert one.process is not None
        one.process.wait()
        seen = len(one.events())
        last = int(one.events()[-1].values["count"])
        clock.step("suspend")
    mounted.unmount()
    clock.step("unmount")
    statistics = mounted.statistics()
    mounted.check()
    clock.step("check")
    mounted.mount()
    clock.step("mount")
    say("the store was unmounted, is clean, and mounted again")
    return Suspended(arguments, state, last, seen, done, statistics, clock.seconds)


def counted(one: Guest, ticks: int, after: int = 0, start: int = 0) -> int:
    """Wait until a guest has counted so many ticks from `after` on, in its events from number
    `start` on, each the next number; return the last. ``GuestError``.

    The guest says ``ok`` of a tick when all its memory has the checksums that were noted when it
    was made, and fails otherwise.
    """
    seen = 0
    for event in one.follow(_BOOT_SECONDS if not after else _TICK_SECONDS, start):
        if event.kind != "tick":
            continue
        _expect(one, event, after + seen + 1)
        seen += 1
        if seen == ticks:
            return after + seen
    raise one.error(f"ended after {seen} of {ticks} ticks")


def _expect(one: Guest, event: Event, count: int) -> None:
    if event.values.get("count") != str(count) or event.values.get("ok") != "1":
        raise one.error(f"did not count to {count}: {dict(event.values)}")


def run(options: Options, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Suspend and resume; return what was measured. Raises as :func:`make_suspended` does."""
    with MountedStore(folder) as mounted:
        found = make_suspended(options, mounted, folder, say)
        clock = Clock()
        with Guest("vm", **found.arguments, incoming=True) as one:
            resumed = resume(one.socket, found.state)
            clock.step("start and load")
            last = counted(one, 1, found.last, found.seen)
            clock.step("first tick")
            last = counted(one, options.ticks, found.last, found.seen)
            say(f"it went on, and counted from {found.last} to {last}, all its memory verified")
        mounted.unmount()
        mounted.check()
    sizes = found.statistics["bytes"]
    return {
        "schema_version": SCHEMA_VERSION,
        "mebibytes": options.mebibytes,
        "suspend": found.done.as_json(),
        "store": {"logical": sizes["logical"], "stored": sizes["stored"]},
        "factor": found.statistics["factor"],
        "resume": resumed.as_json(),
        "counted": {"before": found.last, "after": last},
        "seconds": {**found.seconds, **clock.seconds},
    }
