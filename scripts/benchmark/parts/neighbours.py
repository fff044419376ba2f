"""How long a page of one volume takes to read while others use the same mount.

4 KiB reads at random, direct: alone; beside a neighbour who writes another volume and synchronises
every 4 MiB; beside one who reads 1 MiB at a time; and while volumes of patches are removed, whose
references the daemon then takes back one by one.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmark import mounts
from benchmark.generator import PAGE
from benchmark.mounts import Filesystem
from benchmark.result import Part
from benchmark.work import BenchmarkError, Work, environment
from difffs.mount.live import read_statistics

MIB = 1 << 20
_TABLE = "4 KiB random reads, direct, 1 job"
_SELF = "what the neighbour does"
_ALONE = "alone"
_REMOVER = "beside a remover of patches"
_BESIDE = {
    "beside a writer, fsync every 4 MiB": "write",
    "beside a reader of 1 MiB pieces": "read-large",
}
_IN_C = "null, C"
_SECONDS = 300.0
"""That a neighbour may take to begin, to verify what it has done, and patches to go."""
_PATCHED_VOLUMES = 8
_CHANGED_WORDS = 8
"""Of each page that is to become a patch: 64 bytes."""
_BETWEEN_QUESTIONS = 0.1
"""Seconds between two looks at whether removed patches are gone."""


@dataclass(slots=True)
class _Round:
    """What one contender did in one round."""

    mean_us: dict[str, float] = field(default_factory=dict)
    p99_us: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Of the neighbours, in MiB a second, or in patches that were removed."""
    pages_verified: int = 0

    def note(self, subject: str, times: list[float]) -> None:
        """Keep mean and p99."""
        if not times:
            raise BenchmarkError(f"{subject}: no page was read")
        self.mean_us[subject] = statistics.fmean(times)
        self.p99_us[subject] = sorted(times)[len(times) * 99 // 100]


def measure(work: Work) -> Part:
    """Measure the contenders in turn."""
    part = Part("neighbours")
    if reason := mounts.obstacle():
        part.absent["neighbours"] = reason
        return part
    folder = work.folder
    with ExitStack() as mounted:
        difffs = mounted.enter_context(mounts.Difffs(folder / "shared", folder / "shared-store"))
        contenders: dict[str, Callable[[], _Round]] = {
            "difffs": partial(_one_round, work, difffs, difffs)
        }
        try:
            program = mounts.build_null(folder)
        except BenchmarkError as error:
            part.absent[_IN_C] = str(error)
        else:
            null = mounted.enter_context(mounts.Null(folder / "shared-null", program))
            contenders[_IN_C] = partial(_one_round, work, null, None)
        results = work.rounds(contenders)
    for name, rounds in results.items():
        _report(part, name, rounds)
    return part


# --- one round ------------------------------------------------------------------------------------


def _one_round(work: Work, system: Filesystem, store: mounts.Difffs | None) -> _Round:
    outcome = _Round()
    image, size = work.images.paths[0], work.options.job_bytes
    size = min(size, image.stat().st_size) // PAGE * PAGE
    read = system.folder / "read"
    try:
        for path in (read, system.folder / "read-large"):
            with image.open("rb") as source:
                path.write_bytes(source.read(size))
        system.settle()
        seconds = work.options.neighbour_seconds
        with _process(work, "read", read, size) as reader:
            time.sleep(seconds)
        _note(outcome, _ALONE, reader.report)
        for subject, kind in _BESIDE.items():
            with _process(work, kind, system.folder / kind, size) as neighbour:
                began = time.monotonic()
                with _process(work, "read", read, size) as reader:
                    time.sleep(seconds)
                took = time.monotonic() - began
            _note(outcome, subject, reader.report)
            outcome.pages_verified += neighbour.report["pages_verified"]
            outcome.rates[subject] = neighbour.report["bytes"] / MIB / took
            system.settle()
        if store is not None:
            _beside_removals(work, store, read, size, outcome)
    finally:
        for file in system.folder.iterdir():
            file.unlink()
        system.settle()
    return outcome


def _note(outcome: _Round, subject: str, report: dict[str, Any]) -> None:
    outcome.note(subject, report["us"])
    outcome.pages_verified += report["pages_verified"]


@dataclass(slots=True)
class _Process:
    """A process of benchmark/neighbour.py; its report is there when it has ended."""

    report: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def _process(work: Work, kind: str, path: Path, size: int) -> Iterator[_Process]:
    """Let it work within this: from its first piece of work on."""
    stop = work.folder / f"stop-{kind}"
    begun = Path(f"{stop}.begun")
    image = work.images.paths[0]
    words = [sys.executable, "-m", "benchmark.neighbour", kind, path, image, size, stop]
    process = subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    one = _Process()
    try:
        deadline = time.monotonic() + _SECONDS
        while not begun.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.005)
        else:
            yield one
        stop.touch()
        said, complaint = process.communicate(timeout=_SECONDS)
        if process.returncode != 0 or not begun.exists():
            raise BenchmarkError(f"{' '.join(map(str, words))}: {complaint.strip()[-500:]}")
        one.report |= json.loads(said)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{' '.join(map(str, words))} does not end") from None
    finally:
        process.kill()
        process.wait()
        stop.unlink(missing_ok=True)
        begun.unlink(missing_ok=True)


# --- removing patches -----------------------------------------------------------------------------


def _alike(image: bytes, seed: int) -> bytes:
    """Return the image with a few words of each page changed."""
    source = random.Random(seed)
    pages = bytearray(image)
    for start in range(0, len(pages), PAGE):
        for _ in range(_CHANGED_WORDS):
            at = start + source.randrange(PAGE // 8) * 8
            pages[at : at + 8] = source.randbytes(8)
    return bytes(pages)


def _until_gone(mount: Path, objects: int) -> int:
    """Return when no more than ``objects`` are stored, in ns of ``perf_counter``.

    The question takes the daemon some milliseconds: it is asked so seldom that it delays far less
    than one read in a hundred.
    """
    deadline = time.monotonic() + _SECONDS
    while read_statistics(mount)["objects"] > objects:
        if time.monotonic() > deadline:
            raise BenchmarkError("the removal of patches did not come to an end")
        time.sleep(_BETWEEN_QUESTIONS)
    return time.perf_counter_ns()


def _beside_removals(
    work: Work, store: mounts.Difffs, read: Path, size: int, outcome: _Round
) -> None:
    """Remove volumes of patches; of the reads, those count that began while that went on."""
    with work.images.paths[0].open("rb") as source:
        image = source.read(size)
    volumes = [store.folder / f"patches.{number}" for number in range(_PATCHED_VOLUMES)]
    before = read_statistics(store.folder)
    for number, volume in enumerate(volumes):
        volume.write_bytes(_alike(image, number))
    store.settle()
    patches = read_statistics(store.folder)["pages"]["patch"] - before["pages"]["patch"]
    with _process(work, "read", read, size) as reader:
        began = time.perf_counter_ns()
        for volume in volumes:
            volume.unlink()
        ended = _until_gone(store.folder, before["objects"])
    meanwhile = [
        took
        for at, took in zip(reader.report["began_ns"], reader.report["us"], strict=True)
        if began <= at <= ended
    ]
    outcome.note(_REMOVER, meanwhile)
    outcome.pages_verified += reader.report["pages_verified"]
    outcome.rates[_REMOVER] = patches / ((ended - began) / 1e9)


# --- the report -----------------------------------------------------------------------------------


def _report(part: Part, name: str, rounds: list[_Round]) -> None:
    part.pages_verified += sum(one.pages_verified for one in rounds)
    for what, kept in (("mean", "mean_us"), ("p99", "p99_us")):
        found: list[dict[str, float]] = [getattr(one, kept) for one in rounds]
        for subject in found[0]:
            times = [one[subject] for one in found]
            part.add(_TABLE, f"{subject}: {what}", name, "us", times)
            if subject != _ALONE:
                # each with what its own round took alone
                ratios = [one[subject] / one[_ALONE] for one in found]
                part.compare(f"{name}, {subject}: {what} / alone", statistics.median(ratios), 1.0)
    for subject in rounds[0].rates:
        unit = "patches/s" if subject == _REMOVER else "MiB/s"
        part.add(_SELF, subject, name, unit, [one.rates[subject] for one in rounds])
