"""Block devices: a loop device over difffs, zram, nbdkit's compressed memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from benchmark import devices, fio
from benchmark.devices import Device
from benchmark.fio import Job, Outcome
from benchmark.generator import PAGE
from benchmark.result import Part
from benchmark.work import Work, run_module

MIB = 1 << 20
_IMAGE = "pages of the image"
_READS = [Job("randread", PAGE, jobs, direct=True) for jobs in (1, 8)]
_WRITES = [Job("randwrite", PAGE, jobs, direct=True) for jobs in (1, 8)]


@dataclass(slots=True)
class _Round:
    image: dict[str, float] = field(default_factory=dict)
    fio: dict[Job, Outcome] = field(default_factory=dict)
    pages_verified: int = 0


def measure(work: Work) -> Part:
    """Measure all devices in turn, each made anew every round."""
    part = Part("block")
    size = _size(work)
    room = max(size, work.options.job_bytes)
    makers: dict[str, tuple[str | None, Callable[[], AbstractContextManager[Device]]]] = {
        "difffs": (
            devices.loop_obstacle(),
            partial(devices.DifffsLoop, work.folder, room),
        ),
        "zram lzo-rle": (devices.zram_obstacle(), partial(devices.Zram, room)),
        "nbdkit zstd": (
            devices.nbdkit_obstacle() or devices.loop_obstacle(),
            partial(devices.NbdkitZstd, work.folder, room),
        ),
    }
    contenders: dict[str, Callable[[], _Round]] = {}
    for name, (reason, make) in makers.items():
        if reason is None:
            contenders[name] = partial(_one_round, work, make, size)
        else:
            part.absent[name] = reason
    if reason := fio.obstacle():
        part.absent["fio"] = reason
    results = work.rounds(contenders)
    for name, rounds in results.items():
        _report(part, name, rounds)
    for subject in dict.fromkeys(figure.subject for figure in part.figures):
        for peer in ("zram lzo-rle", "nbdkit zstd"):
            part.compare(
                f"{subject}: difffs / {peer}",
                part.median(subject, "difffs"),
                part.median(subject, peer),
            )
    return part


def _size(work: Work) -> int:
    return min(work.options.size, work.images.paths[0].stat().st_size) // MIB * MIB


def _one_round(
    work: Work, make: Callable[[], AbstractContextManager[Device]], size: int
) -> _Round:
    outcome = _Round()
    with make() as device:
        words = (device.path, "direct", MIB, work.images.paths[0], size)
        written = run_module("image_io", "write", *words)
        outcome.image["1 MiB writes, 1 job"] = size / written["durable"] / MIB
        device.settle()
        outcome.image["memory for the image"] = device.memory() / MIB
        read = run_module("image_io", "read", *words)
        outcome.image["1 MiB reads, 1 job"] = size / read["seconds"] / MIB
        outcome.pages_verified += size // PAGE
        if fio.obstacle() is None:
            # Reading goes to the image's pages, so that decoding costs what it costs.
            bytes_read = min(size, work.options.job_bytes)
            for job in _READS:
                outcome.fio[job] = fio.run(job, bytes_read, device=device.path)
            for job in _WRITES:
                moved = work.options.job_bytes
                outcome.fio[job] = fio.run(job, moved, device=device.path)
                device.settle()
                outcome.pages_verified += fio.verify(job, moved, device=device.path)
    return outcome


def _report(part: Part, name: str, rounds: list[_Round]) -> None:
    part.pages_verified += sum(one.pages_verified for one in rounds)
    for what in rounds[0].image:
        unit = "MiB" if what.startswith("memory") else "MiB/s"
        part.add(_IMAGE, what, name, unit, [one.image[what] for one in rounds])
    for job in rounds[0].fio:
        rates = [one.fio[job].operations_per_second for one in rounds]
        part.add("fio", job.name, name, "IOPS", rates)
        waits = [one.fio[job].p99_us for one in rounds]
        part.add("fio, 99th percentile", job.name, name, "us", waits)
