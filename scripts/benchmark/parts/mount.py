"""The mount with fio and with real pages, against two null file systems and tmpfs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmark import fio, mounts
from benchmark.fio import Job, Outcome
from benchmark.generator import PAGE
from benchmark.mounts import Filesystem
from benchmark.result import Part
from benchmark.work import BenchmarkError, Work, run_module

MIB = 1 << 20
_FIO = "fio"
_IMAGE = "pages of the image, 1 MiB, 1 job"
_IN_C = "null, C"
_COPY = 4 * MIB


def _jobs() -> list[Job]:
    """All combinations, each write before the reads."""
    return [
        Job(mode, block, jobs, direct)
        for direct in (False, True)
        for block, modes in ((PAGE, ("randwrite", "randread")), (MIB, ("write", "read")))
        for jobs in (1, 8)
        for mode in modes
    ]


@dataclass(slots=True)
class _Round:
    """What one contender did in one round."""

    fio: dict[Job, Outcome] = field(default_factory=dict)
    cpu: dict[Job, float] = field(default_factory=dict)
    """Processor time of the server, microseconds for each block."""
    image: dict[str, float] = field(default_factory=dict)
    """Bytes a second."""
    pages_verified: int = 0


def measure(work: Work) -> Part:
    """Measure all contenders in turn."""
    part = Part("mount")
    if reason := mounts.obstacle():
        part.absent["mount"] = reason
        return part
    jobs = _jobs()
    if reason := fio.obstacle():
        part.absent["fio"] = reason
        jobs = []
    folder = work.folder
    with ExitStack() as mounted:
        systems: dict[str, Filesystem] = {
            "difffs": mounted.enter_context(mounts.Difffs(folder / "difffs", folder / "store")),
            "null": mounted.enter_context(mounts.Null(folder / "null")),
        }
        try:
            program = mounts.build_null(folder)
        except BenchmarkError as error:
            part.absent[_IN_C] = str(error)
        else:
            systems[_IN_C] = mounted.enter_context(mounts.Null(folder / "null-c", program))
        systems["tmpfs"] = mounted.enter_context(mounts.Tmpfs(folder / "tmpfs"))
        contenders: dict[str, Callable[[], _Round]] = {
            name: partial(_one_round, work, system, jobs) for name, system in systems.items()
        }
        results = work.rounds(contenders)
    engine = [_engine_rates(work) for _ in range(work.options.rounds)]
    _report(part, jobs, results)
    for way in ("write", "read"):
        part.add(_IMAGE, f"{way}s, engine alone", "difffs", "MiB/s", [r[way] / MIB for r in engine])
    _compare(part, jobs)
    return part


def _one_round(work: Work, system: Filesystem, jobs: list[Job]) -> _Round:
    outcome = _Round()
    for job in jobs:
        _one_job(work, system, job, outcome)
    _real_pages(work, system, outcome)
    return outcome


def _one_job(work: Work, system: Filesystem, job: Job, outcome: _Round) -> None:
    size = work.options.job_bytes
    folder = system.folder
    try:
        if not job.writes:
            _spread(work, folder, job.jobs, size)
            system.settle()
        before = system.cpu_seconds()
        outcome.fio[job] = fio.run(job, size, folder=folder)
        system.settle()
        spent = system.cpu_seconds() - before
        outcome.cpu[job] = spent / (size / job.block) * 1e6
        if job.writes:
            outcome.pages_verified += fio.verify(job, size, folder=folder)
        else:
            outcome.pages_verified += _compare_spread(work, folder, job.jobs, size)
    finally:
        for file in folder.iterdir():
            file.unlink()
        system.settle()


def _pieces(work: Work, count: int, size: int) -> list[tuple[Path, int, int]]:
    """Return (image, offset, length) for each of ``count`` files that share ``size`` bytes."""
    share = size // count // MIB * MIB or size // count // PAGE * PAGE
    image = work.images.paths[0]
    length = image.stat().st_size
    return [(image, number * share % max(1, length - share), share) for number in range(count)]


def _spread(work: Work, folder: Path, count: int, size: int) -> None:
    """Put parts of the image in files, for reading jobs: decoding shall cost what it costs."""
    for number, (image, offset, length) in enumerate(_pieces(work, count, size)):
        with image.open("rb") as source, (folder / f"f.{number}").open("wb") as target:
            source.seek(offset // PAGE * PAGE)
            while length > 0 and (data := source.read(min(length, _COPY))):
                target.write(data)
                length -= len(data)


def _compare_spread(work: Work, folder: Path, count: int, size: int) -> int:
    pages = 0
    for number, (image, offset, length) in enumerate(_pieces(work, count, size)):
        with image.open("rb") as source, (folder / f"f.{number}").open("rb") as kept:
            source.seek(offset // PAGE * PAGE)
            while length > 0 and (data := source.read(min(length, _COPY))):
                if kept.read(len(data)) != data:
                    raise BenchmarkError(f"{kept.name} differs from what was written")
                length -= len(data)
                pages += len(data) // PAGE
    return pages


def _real_pages(work: Work, system: Filesystem, outcome: _Round) -> None:
    image = work.images.paths[0]
    size = min(work.options.size, image.stat().st_size)
    for way in ("cached", "direct"):
        file = system.folder / "image"
        words = (file, way, MIB, image, size)
        try:
            written = run_module("image_io", "write", *words)
            outcome.image[f"writes, {way}"] = size / written["durable"]
            system.settle()
            read = run_module("image_io", "read", *words)
            outcome.image[f"reads, {way}"] = size / read["seconds"]
            outcome.pages_verified += size // PAGE
        finally:
            file.unlink(missing_ok=True)
            system.settle()


def _engine_rates(work: Work) -> dict[str, float]:
    """Return the engine's own bytes a second for the same pages."""
    image = work.images.paths[0]
    store = work.folder / "engine"
    try:
        run = run_module("engine_worker", "import", "default", 1, store, image)
    finally:
        shutil.rmtree(store, ignore_errors=True)
    size = image.stat().st_size
    return {"write": size / run["seconds"], "read": size / run["read_seconds"]}


def _report(part: Part, jobs: list[Job], results: dict[str, list[_Round]]) -> None:
    for name, rounds in results.items():
        part.pages_verified += sum(r.pages_verified for r in rounds)
        for job in jobs:
            outcomes = [r.fio[job] for r in rounds]
            if job.block == MIB:
                rates = [one.bytes_per_second / MIB for one in outcomes]
                part.add(_FIO, job.name, name, "MiB/s", rates)
            else:
                rates = [one.operations_per_second for one in outcomes]
                part.add(_FIO, job.name, name, "IOPS", rates)
            if name != "tmpfs":
                spent = [r.cpu[job] for r in rounds]
                part.add("processor time of the server a block", job.name, name, "us", spent)
        for what in rounds[0].image:
            rates = [r.image[what] / MIB for r in rounds]
            part.add(_IMAGE, what, name, "MiB/s", rates)


def _goal(job: Job) -> float | None:
    """Return what difffs / null should be."""
    if job.block != PAGE:
        return None
    if job.jobs > 1:
        return 0.7
    return 0.9 if job.writes else 0.75


def _compare(part: Part, jobs: list[Job]) -> None:
    for job in jobs:
        goal = _goal(job)
        mine = part.median(job.name, "difffs")
        part.compare(
            f"{job.name}: difffs / null",
            mine,
            part.median(job.name, "null"),
            goal,
            target=3 if goal else None,
        )
        part.compare(f"{job.name}: difffs / {_IN_C}", mine, part.median(job.name, _IN_C))
    for what in ("writes, cached", "writes, direct", "reads, cached", "reads, direct"):
        null = part.median(what, "null")
        engine = part.median(f"{what.partition('s,')[0]}s, engine alone", "difffs")
        if null and engine:
            part.compare(
                f"1 MiB {what}, image: difffs / min(null, engine)",
                part.median(what, "difffs"),
                min(null, engine),
                0.85,
                target=3,
            )
