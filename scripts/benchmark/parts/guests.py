"""The host memory that the RAM of several guests takes while they work and when they rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from trial import guest, swap
from trial.guest import Guest

from benchmark import mounts, swapping
from benchmark.guest_ram import (
    MIB,
    Cost,
    Way,
    ksm_obstacle,
    merged,
    on_difffs,
    on_zram,
    plain,
)
from benchmark.result import Part
from benchmark.work import BenchmarkError, Work

_WORK = "archive,copies,sort,words,noise,fill"
_SECONDS = 1800
_STEP_SECONDS = 1.0
_PLAIN, _KSM = "plain", "KSM"
_ZRAM, _HALF, _AUTO = "zram 50%", "difffs 50%", "difffs auto"


@dataclass(frozen=True, slots=True)
class _Run:
    """One way's guests, from their start to the end of their rest."""

    worked_seconds: float
    """Until the last of them had verified all its work."""
    working: Sequence[tuple[float, Cost]]
    """By the seconds since the start."""
    resting: Sequence[tuple[float, Cost]]


def measure(work: Work) -> Part:
    """Run the same guests with each way to have their RAM, in turn."""
    part = Part("guests")
    if reason := guest.obstacle():
        part.absent["guests"] = reason
        return part
    accelerator = guest.accelerator()
    part.notes.append(f"accelerator: {accelerator}; everything, the store too, lies in memory")
    run = partial(_run, work, accelerator)
    runs = {_PLAIN: [run(_PLAIN, plain) for _ in range(work.options.rounds)]}
    own = max(cost.own for one in runs[_PLAIN] for _, cost in one.working)
    for name, way in _ways(part, work, own).items():
        runs[name] = [run(name, way) for _ in range(work.options.rounds)]
    for name, found in runs.items():
        _add(part, name, found)
    _compare(part)
    return part


def _ways(part: Part, work: Work, own: int) -> dict[str, Way]:
    """`own`: what QEMU itself takes, for which a limit of all that is resident leaves room."""
    ram = work.options.guests * work.options.guest_bytes
    ways: dict[str, Way] = {}
    if reason := ksm_obstacle():
        part.absent[_KSM] = reason
    else:
        ways[_KSM] = merged
    if reason := swapping.zram_obstacle() or swap.obstacle():
        part.absent[_ZRAM] = reason
    else:
        ways[_ZRAM] = on_zram(ram // 2 + own)
    if reason := mounts.obstacle():
        part.absent["difffs"] = reason
    else:
        ways |= {_HALF: on_difffs("50%"), _AUTO: on_difffs("auto")}
    return ways


def _run(work: Work, accelerator: str, name: str, way: Way) -> _Run:
    work.say(f"  {name}")
    folder = work.folder / "guests"
    folder.mkdir()

    def make(ram: str, files: Path) -> list[Guest]:
        return [
            Guest(
                name=f"vm{number}",
                memory=files / f"vm{number}.mem",
                folder=folder,
                mebibytes=work.options.guest_bytes // MIB,
                accelerator=accelerator,
                work=_WORK,
                rounds=work.options.guest_rounds,
                seed=number,
                end="stay",
                ram=ram,
            )
            for number in range(1, work.options.guests + 1)
        ]

    try:
        began = time.monotonic()
        working: list[tuple[float, Cost]] = []
        resting: list[tuple[float, Cost]] = []
        with way(make, folder) as running:
            guests = running.group.guests
            until = began + _SECONDS
            while not all(_is_done(one) for one in guests):
                if running.group.process.poll() is not None or time.monotonic() > until:
                    raise guests[0].error(
                        f"and others, {name}: ended, or not done within {_SECONDS} s: "
                        + running.group.errors.read_text(errors="replace")[-500:]
                    )
                working.append((time.monotonic() - began, running.look()))
                time.sleep(_STEP_SECONDS)
            worked = time.monotonic() - began
            while time.monotonic() - began < worked + work.options.rest_seconds:
                time.sleep(_STEP_SECONDS)
                resting.append((time.monotonic() - began, running.look()))
        return _Run(worked, working, resting)
    except guest.GuestError as error:
        raise BenchmarkError(str(error)) from error
    finally:
        shutil.rmtree(folder)


def _is_done(one: Guest) -> bool:
    """``BenchmarkError`` where the guest has found a wrong byte."""
    events = one.events()
    for event in events:
        if event.kind == "failed":
            raise BenchmarkError(f"guest {one.name} reports a failure: {dict(event.values)}")
    return bool(events) and events[-1].kind == "done"


def _add(part: Part, name: str, runs: Sequence[_Run]) -> None:
    used = "host memory of the guests' RAM"
    part.add(used, "mean of their work", name, "MiB", [_mean(run.working) / MIB for run in runs])
    for eighth in range(1, 9):
        at = [_at(run, eighth / 8).used / MIB for run in runs]
        part.add(used, f"after {eighth}/8 of it", name, "MiB", at)
    last = [run.resting[-1][1] for run in runs]
    part.add(used, "after the rest", name, "MiB", [cost.used / MIB for cost in last])
    place = "then"
    part.add(place, "guest pages", name, "MiB", [cost.resident / MIB for cost in last])
    part.add(place, "store, zram, KSM", name, "MiB", [cost.kept / MIB for cost in last])
    part.add(place, "daemons", name, "MiB", [cost.daemons / MIB for cost in last])
    part.add("beside", "QEMU itself", name, "MiB", [cost.own / MIB for cost in last])
    part.add("beside", "work done after", name, "s", [run.worked_seconds for run in runs])


def _mean(samples: Sequence[tuple[float, Cost]]) -> float:
    """Each sample for the time up to the next."""
    pairs = list(pairwise(samples))
    weighted = sum(cost.used * (later - earlier) for (earlier, cost), (later, _) in pairs)
    return weighted / (samples[-1][0] - samples[0][0])


def _at(run: _Run, share: float) -> Cost:
    return min(run.working, key=lambda sample: abs(sample[0] - share * run.worked_seconds))[1]


def _compare(part: Part) -> None:
    mean, rest, seconds = "mean of their work", "after the rest", "work done after"

    def compare(text: str, subject: str, name: str, peer: str, goal: float | None) -> None:
        values = part.median(subject, name), part.median(subject, peer)
        part.compare(f"{name} / {peer}: {text}", *values, goal, at_most=True)

    for name, goal, slower in ((_HALF, 0.45, 1.2), (_AUTO, 0.6, 1.05)):
        compare("memory while they work", mean, name, _PLAIN, goal)
        compare("memory after the rest", rest, name, _PLAIN, goal)
        compare("time of the work", seconds, name, _PLAIN, slower)
    for name, peer in ((_HALF, _ZRAM), (_AUTO, _ZRAM), (_AUTO, _KSM)):
        compare("memory while they work", mean, name, peer, 1.0)
        compare("memory after the rest", rest, name, peer, 1.0)
    compare("time of the work", seconds, _ZRAM, _PLAIN, None)
