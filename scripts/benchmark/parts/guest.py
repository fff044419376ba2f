"""A guest that boots and does fixed work, with its RAM on difffs and on tmpfs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from trial import guest

from benchmark import mounts
from benchmark.mounts import Filesystem
from benchmark.result import Part
from benchmark.work import BenchmarkError, Work

MEBIBYTES = 192
_SECONDS = 300
_TABLE = f"a guest with {MEBIBYTES} MiB"


def measure(work: Work) -> Part:
    """Boot in turn with both."""
    part = Part("guest")
    if reason := guest.obstacle():
        part.absent["guest"] = reason
        return part
    accelerator = guest.accelerator()
    part.notes.append(f"accelerator: {accelerator}")
    with ExitStack() as stack:
        systems: dict[str, AbstractContextManager[Filesystem]] = {
            "tmpfs": mounts.Tmpfs(work.folder / "tmpfs")
        }
        if reason := mounts.obstacle():
            part.absent["difffs"] = reason
        else:
            systems["difffs"] = mounts.Difffs(work.folder / "difffs", work.folder / "store")
        contenders: dict[str, Callable[[], tuple[float, float]]] = {
            name: partial(_boot, work, stack.enter_context(system), accelerator)
            for name, system in systems.items()
        }
        results = work.rounds(contenders)
    for name, runs in results.items():
        part.add(_TABLE, "until ready", name, "s", [ready for ready, _ in runs])
        part.add(_TABLE, "until its work is done", name, "s", [done for _, done in runs])
    part.compare(
        "boot + fixed work: difffs / tmpfs",
        part.median("until its work is done", "difffs"),
        part.median("until its work is done", "tmpfs"),
        1.15,
        at_most=True,
        target=5,
    )
    return part


def _boot(work: Work, system: Filesystem, accelerator: str) -> tuple[float, float]:
    """Return the seconds until the guest was up, and until it had verified all of its work."""
    memory = system.folder / "guest.mem"
    folder = Path(work.folder / "guest")
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        with guest.Guest(
            name="bench",
            memory=memory,
            folder=folder,
            mebibytes=MEBIBYTES,
            accelerator=accelerator,
        ) as one:
            one.wait_for("ready", _SECONDS)
            ready = time.monotonic() - began
            one.wait_until_off(_SECONDS)
            return ready, time.monotonic() - began
    except guest.GuestError as error:
        raise BenchmarkError(str(error)) from error
    finally:
        memory.unlink(missing_ok=True)
        for file in folder.iterdir():
            file.unlink()
        system.settle()
