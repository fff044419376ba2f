"""Guests with their RAM on a mount, while the host swaps to the same store.

The guests have a memory control group that holds a part of them: their RAM goes to its files, and
QEMU's own memory to the swap area. Beside them one process after the other needs more memory than
it has. What must hold: guests and processes read everything as they wrote it, and the store is
clean.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trial import swap
from trial.cgroup import MemoryCgroup
from trial.guest import Guest, GuestError
from trial.held_hog import HeldHog, HogError

from tests.integration.harness import Mounted, difffs

GUESTS = 2
MEBIBYTES = 160
"""RAM of each guest."""
GROUP_MEBIBYTES = 192
"""What both may have resident, their QEMUs' own memory (some 67 MiB each) included."""
HOG_MEBIBYTES, HOG_RESIDENT = 128, 48
_SWAP_SIZE = "1G"
_PRIORITY = "32767"
_WORK = "archive,copies,noise"
_SECONDS_FOR_A_TICK = 300.0


@dataclass(slots=True)
class Report:
    """What was done, measured and found."""

    seconds: float
    ticks: list[int] = field(default_factory=list)
    """Of each guest: how often it has verified its memory."""
    hogs: int = 0
    hog_pages: int = 0
    """Pages that the processes have verified."""
    swapped: int = 0
    """Bytes in use on the area, at most."""
    swapped_of_guests: int = 0
    """Of them, of the guests' QEMU processes, at most."""
    written: int = 0
    """Bytes of pages that the store took, of guests' RAM and swap."""
    logical: int = 0
    stored: int = 0
    """Of the store, before the guests ended."""
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        lines = [
            f"guests: {self.seconds:.0f} s; {len(self.ticks)} guests verified their memory"
            f" {self.ticks} times, {self.hogs} processes {self.hog_pages:,} pages",
            f"  swapped out at most {self.swapped / 2**20:.0f} MiB, of it QEMU's own memory at most"
            f" {self.swapped_of_guests / 2**20:.0f} MiB; the store took"
            f" {self.written / 2**20:,.0f} MiB of pages, and kept {self.logical / 2**20:.0f} MiB in"
            f" {self.stored / 2**20:.0f} MiB",
        ]
        return "\n".join(lines + [f"  VIOLATION: {fault}" for fault in self.faults])


def try_guests(
    mounted: Mounted, seconds: float, say: Callable[[str], None] = lambda _text: None
) -> Report:
    """Run for about so long on a mount, which is unmounted and checked at the end.

    AssertionError of a command that failed, as of a check that found something.
    """
    report = Report(seconds)
    began = time.monotonic()
    area = json.loads(
        difffs(
            *("swapon", mounted.store, "--size", _SWAP_SIZE, "--priority", _PRIORITY, "--json")
        ).stdout
    )
    try:
        try:
            _run(mounted, area["device"], report, began + seconds, say)
        except (GuestError, HogError) as error:
            report.faults.append(str(error))
    finally:
        difffs("swapoff", mounted.store)
    mounted.unmount()
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _run(
    mounted: Mounted, device: str, report: Report, end: float, say: Callable[[str], None]
) -> None:
    name = f"difffs-endurance-{os.getpid()}"
    with ExitStack() as stack:
        group = stack.enter_context(MemoryCgroup(f"{name}-guests", GROUP_MEBIBYTES << 20))
        guests = []
        for number in range(1, GUESTS + 1):
            one = Guest(
                f"vm{number}", mounted.path / f"vm{number}.mem", mounted.folder, MEBIBYTES,
                work=_WORK, seed=number, end="count",
            )  # fmt: skip
            guests.append(stack.enter_context(one))
            assert one.process is not None
            (group.folder / "cgroup.procs").write_text(str(one.process.pid))
        for one in guests:
            one.wait_for("tick", _SECONDS_FOR_A_TICK)
        hog_group = stack.enter_context(MemoryCgroup(f"{name}-hog", HOG_RESIDENT << 20))
        while report.hogs == 0 or time.monotonic() < end:
            with HeldHog(hog_group, HOG_MEBIBYTES, rounds=3, seed=report.hogs) as hog:
                report.hog_pages += hog.verified()
                report.swapped = max(report.swapped, swap.used_of(device))
                own = sum(_swapped_of(one) for one in guests)
                report.swapped_of_guests = max(report.swapped_of_guests, own)
                report.hog_pages += hog.finish()
            report.hogs += 1
            for one in guests:
                verify_counting(one)
            report.ticks = [_ticks(one) for one in guests]
            say(report.text())
        for one in guests:  # once more, and nothing else goes on
            one.wait_for("tick", _SECONDS_FOR_A_TICK, start=len(one.events()))
            verify_counting(one)
        report.ticks = [_ticks(one) for one in guests]
        told = mounted.statistics()
        report.written = sum(route["bytes_in"] for route in told["routes"].values())
        report.logical, report.stored = told["bytes"]["logical"], told["bytes"]["stored"]


def verify_counting(one: Guest) -> None:
    """``GuestError`` when a guest has ended, reported a failure, or not counted one by one."""
    counts = []
    for event in one.events():
        if event.kind == "failed":
            raise one.error(f"reports a failure: {dict(event.values)}")
        if event.kind == "tick":
            counts.append((event.values.get("count"), event.values.get("ok")))
    if counts != [(str(count), "1") for count in range(1, len(counts) + 1)]:
        raise one.error(f"has not counted one by one: {counts}")
    if not one.running:
        raise one.error("has ended")


def _ticks(one: Guest) -> int:
    return sum(event.kind == "tick" for event in one.events())


def _swapped_of(one: Guest) -> int:
    assert one.process is not None
    for line in Path(f"/proc/{one.process.pid}/status").read_text().splitlines():
        if line.startswith("VmSwap:"):
            return int(line.split()[1]) << 10
    return 0
