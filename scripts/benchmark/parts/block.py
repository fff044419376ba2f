"""Block devices: a loop device over difffs, zram, nbdkit's compressed memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmark import devices, fio, qemu_img
from benchmark.devices import Device
from benchmark.fio import Job
from benchmark.generator import PAGE
from benchmark.result import Part
from benchmark.work import Work, run_module

MIB = 1 << 20
_IMAGE = "pages of the image"
_FIO = "fio on the device"
_FIO_P99 = "fio on the device, 99th percentile"
_QEMU = "qemu-img on volume, device, NBD"
_READS = [Job("randread", PAGE, jobs, direct=True) for jobs in (1, 8)]
_WRITES = [Job("randwrite", PAGE, jobs, direct=True) for jobs in (1, 8)]

Maker = Callable[[], AbstractContextManager[Device]]


@dataclass(slots=True)
class _Round:
    """What one device did in one round: (table, subject, unit) -> value."""

    values: dict[tuple[str, str, str], float] = field(default_factory=dict)
    pages_verified: int = 0


def measure(work: Work) -> Part:
    """Measure all devices in turn, each made anew for every use."""
    part = Part("block")
    image, size = _image(work)
    room = max(size, work.options.job_bytes)
    makers: dict[str, tuple[str | None, Callable[[int], AbstractContextManager[Device]]]] = {
        "difffs": (devices.loop_obstacle(), partial(devices.DifffsLoop, work.folder)),
        "zram lzo-rle": (devices.zram_obstacle(), devices.Zram),
        "nbdkit zstd": (
            devices.nbdkit_obstacle() or qemu_img.obstacle(),
            partial(devices.NbdkitZstd, work.folder),
        ),
    }
    for tool in (fio, qemu_img):
        if reason := tool.obstacle():
            part.absent[tool.__name__.rpartition(".")[2]] = reason
    contenders: dict[str, Callable[[], _Round]] = {}
    for name, (reason, make) in makers.items():
        if reason is None:
            contenders[name] = partial(
                _one_round, work, image, partial(make, room), partial(make, size)
            )
        else:
            part.absent[name] = reason
    results = work.rounds(contenders)
    for name, rounds in results.items():
        part.pages_verified += sum(one.pages_verified for one in rounds)
        for table, subject, unit in rounds[0].values:
            values = [one.values[table, subject, unit] for one in rounds]
            part.add(table, subject, name, unit, values)
    _compare(part)
    image.unlink()
    return part


def _compare(part: Part) -> None:
    for table, subject in dict.fromkeys((f.table, f.subject) for f in part.figures):
        for peer in ("zram lzo-rle", "nbdkit zstd"):
            if table != _FIO_P99:
                part.compare(
                    f"{subject}: difffs / {peer}",
                    part.median(subject, "difffs"),
                    part.median(subject, peer),
                )


def _image(work: Work) -> tuple[Path, int]:
    """Return a copy of the first image, whole MiB of it."""
    source = work.images.paths[0]
    size = min(work.options.size, source.stat().st_size) // MIB * MIB
    path = work.folder / "block.image"
    with source.open("rb") as file:
        path.write_bytes(file.read(size))
    return path, size


def _one_round(work: Work, image: Path, make: Maker, make_fitting: Maker) -> _Round:
    outcome = _Round()
    with make() as device:
        if device.path:
            _use_device(work, image, device, outcome)
    if qemu_img.obstacle() is None:
        with make_fitting() as device:
            _use_qemu(work, image, device, outcome)
    return outcome


def _use_device(work: Work, image: Path, device: Device, outcome: _Round) -> None:
    size = image.stat().st_size
    words = (device.path, "direct", MIB, image, size)
    written = run_module("image_io", "write", *words)
    outcome.values[_IMAGE, "1 MiB writes", "MiB/s"] = size / written["durable"] / MIB
    device.settle()
    outcome.values[_IMAGE, "memory for the image", "MiB"] = device.memory() / MIB
    read = run_module("image_io", "read", *words)
    outcome.values[_IMAGE, "1 MiB reads", "MiB/s"] = size / read["seconds"] / MIB
    outcome.pages_verified += size // PAGE
    if fio.obstacle() is not None:
        return
    # Reading goes to the image's pages, so that decoding costs what it costs.
    for job in [*_READS, *_WRITES]:
        moved = work.options.job_bytes if job.writes else min(size, work.options.job_bytes)
        result = fio.run(job, moved, device=device.path)
        outcome.values[_FIO, job.name, "IOPS"] = result.operations_per_second
        outcome.values[_FIO_P99, job.name, "us"] = result.p99_us
        if job.writes:
            device.settle()
            outcome.pages_verified += fio.verify(job, moved, device=device.path)


def _use_qemu(work: Work, image: Path, device: Device, outcome: _Round) -> None:
    size = image.stat().st_size
    target = device.qemu_name
    seconds = qemu_img.write_image(image, target)
    outcome.values[_QEMU, "writing the image", "MiB/s"] = size / seconds / MIB
    device.settle()
    outcome.values[_QEMU, "memory then", "MiB"] = device.memory() / MIB
    seconds = qemu_img.read_all(target, size)
    outcome.values[_QEMU, "reading the image", "MiB/s"] = size / seconds / MIB
    count = min(size, work.options.job_bytes) // PAGE
    for depth in (1, 8):
        seconds = qemu_img.read_pages(target, count, depth)
        outcome.values[_QEMU, f"4 KiB reads, depth {depth}", "IOPS"] = count / seconds
    for depth in (1, 8):
        seconds = qemu_img.write_pages(target, count, depth)
        outcome.values[_QEMU, f"4 KiB writes, depth {depth}", "IOPS"] = count / seconds
    device.settle()
    outcome.pages_verified += qemu_img.verify(image, target, count, work.folder)
