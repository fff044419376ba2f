"""A fixed program with less memory than it needs: difffs, zram, and no limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from trial import cgroup

from benchmark import swapping
from benchmark.result import Part
from benchmark.swapping import Area
from benchmark.work import BenchmarkError, Work, environment

MIB = 1 << 20
ROUNDS = 3
"""That the program goes through its memory."""
SHARE = 0.4
"""Of its memory that may be resident."""
_ATTEMPTS = 5
_TABLE = "fixed program"
_MEMORY = "memory of what is swapped out"


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    memory: dict[str, int]
    pages_verified: int


def measure(work: Work) -> Part:
    """Measure the program with each swap area in turn."""
    part = Part("swap")
    if reason := cgroup.obstacle():
        part.absent["swap"] = reason
        return part
    size = work.options.hog_bytes
    area = size + size // 4
    makers: dict[str, tuple[str | None, Callable[[], AbstractContextManager[Area]]]] = {
        "no limit": (None, swapping.NoArea),
        "zram lzo-rle": (swapping.zram_obstacle(), partial(swapping.ZramArea, area)),
        "difffs": (
            swapping.difffs_obstacle(),
            partial(swapping.DifffsArea, work.folder / "swap-store", area),
        ),
    }
    contenders: dict[str, Callable[[], _Run]] = {}
    for name, (reason, make) in makers.items():
        if reason is None:
            contenders[name] = partial(_surviving_run, part, work, name, make)
        else:
            part.absent[name] = reason
    results = work.rounds(contenders)
    for name, runs in results.items():
        part.add(_TABLE, "wall time", name, "s", [run.seconds for run in runs])
        if name != "no limit":
            used = [sum(run.memory.values()) / MIB for run in runs]
            part.add(_TABLE, _MEMORY, name, "MiB", used)
            for where in runs[0].memory if len(runs[0].memory) > 1 else ():
                these = [run.memory[where] / MIB for run in runs]
                part.add(_TABLE, f"  of it the {where}", name, "MiB", these)
        part.pages_verified += sum(run.pages_verified for run in runs)
    part.notes.append(
        f"the program fills {size // MIB} MiB and may have {SHARE:.0%} of it resident;"
        f" {ROUNDS} rounds"
    )
    _compare(part)
    return part


def _compare(part: Part) -> None:
    time, zram = "wall time", "zram lzo-rle"
    for subject, goal in ((time, 1.5), (_MEMORY, 0.75)):
        part.compare(
            f"{subject}: difffs / zram",
            part.median(subject, "difffs"),
            part.median(subject, zram),
            goal,
            at_most=True,
            target=4,
        )
    for name in (zram, "difffs"):
        part.compare(
            f"{time}: {name} / no limit", part.median(time, name), part.median(time, "no limit")
        )


class _Killed(Exception):
    """The kernel found no memory for the program, though there was room in the swap area."""


def _surviving_run(
    part: Part, work: Work, name: str, make: Callable[[], AbstractContextManager[Area]]
) -> _Run:
    """Run until it is not killed: a cgroup at its limit now and then is too quick for reclaim."""
    for _attempt in range(_ATTEMPTS):
        try:
            return _one_run(work, make, limited=name != "no limit")
        except _Killed:
            part.notes.append(f"{name}: one run did not count, the kernel killed the program")
    raise BenchmarkError(f"the kernel killed the program {_ATTEMPTS} times with {name}")


def _one_run(
    work: Work, make: Callable[[], AbstractContextManager[Area]], *, limited: bool
) -> _Run:
    size = work.options.hog_bytes
    group = (
        cgroup.MemoryCgroup(f"difffs-bench-{os.getpid()}", int(size * SHARE))
        if limited
        else nullcontext()
    )
    with make() as area, group as entered:
        hog = subprocess.Popen(
            [sys.executable, "-m", "benchmark.hog", str(size), str(ROUNDS)]
            + [str(path) for path in work.images.paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            preexec_fn=None if entered is None else entered.enter,
        )
        try:
            values = _said(hog)
            memory = area.memory()
            _, complaint = hog.communicate()
            if hog.returncode:
                raise BenchmarkError(f"the program ended with {hog.returncode}: {complaint}")
        finally:
            if hog.poll() is None:
                hog.kill()
                hog.wait()
    return _Run(values["seconds"], memory, values["pages_verified"])


def _said(hog: subprocess.Popen[str]) -> dict[str, Any]:
    assert hog.stdout is not None
    line = hog.stdout.readline()
    if not line:
        if hog.wait() == -signal.SIGKILL:
            raise _Killed
        _, complaint = hog.communicate()
        raise BenchmarkError(f"the program ended with {hog.returncode}: {complaint.strip()[-500:]}")
    values: dict[str, Any] = json.loads(line)
    return values
