"""What refining gives and costs: sizes, the rate of packing, and reading afterwards, by tier; what
others get of a mount while it refines.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmark import fio, mounts
from benchmark.result import Part
from benchmark.work import BenchmarkError, Work, run_module, run_tool
from difffs.mount.live import read_statistics
from difffs.page import PAGE_SIZE
from difffs.refine.tiers import TIERS

MIB = 1 << 20
_PLAIN = "not refined"
_READS = 4000
_TABLE = "a store of all images"
_BESIDE_TABLE = "fio on a mount"
_ALONE, _REFINING = "alone", "while it refines"
_WHEN = (_ALONE, _REFINING)
_JOBS = (
    fio.Job("randwrite", PAGE_SIZE, jobs=1, direct=True),
    fio.Job("randread", PAGE_SIZE, jobs=1, direct=True),
)


def measure(work: Work) -> Part:
    """Store the images once, refine copies of that store to each tier, and compare exports."""
    part = Part("refine")
    plain = work.folder / "plain"
    for image in work.images.paths:
        _difffs("import", plain, image)
    try:
        _look(part, _PLAIN, plain)
        _read_mounted(part, work, _PLAIN, _copy(work, plain, _PLAIN))
        for tier in TIERS:
            work.say(f"  {tier}")
            _refine(part, work, plain, tier)
        _beside(part, work, plain)
    finally:
        shutil.rmtree(plain, ignore_errors=True)
    return part


def _refine(part: Part, work: Work, plain: Path, tier: str) -> None:
    store = _copy(work, plain, tier)
    try:
        began = time.perf_counter()
        done = json.loads(_difffs("refine", store, "--tier", tier, "--json"))
        seconds = time.perf_counter() - began
        part.add(_TABLE, "pages refined a second, two workers", tier, "", done["pages"] / seconds)
        _look(part, tier, store)
        for image in work.images.paths:
            exported = work.folder / "exported"
            _difffs("export", store, image.name, exported)
            if not filecmp.cmp(image, exported, shallow=False):
                raise BenchmarkError(f"{image.name} comes back changed from {tier}")
            exported.unlink()
        part.pages_verified += work.images.pages
        _read_mounted(part, work, tier, store)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _copy(work: Work, plain: Path, name: str) -> Path:
    store = work.folder / name.replace(" ", "-")
    run_tool("cp", "--archive", "--sparse=always", plain, store)
    return store


def _read_mounted(part: Part, work: Work, name: str, store: Path) -> None:
    """The first image as a file of a mount, front to back. The store is gone afterwards."""
    if reason := mounts.obstacle():
        part.absent["a mount"] = reason
        return
    image = work.images.paths[0]
    with mounts.Difffs(work.folder / "mounted", store) as mount:
        began = time.perf_counter()
        run_tool("dd", f"if={mount.folder / image.name}", "of=/dev/null", "bs=1M", "status=none")
        seconds = time.perf_counter() - began
        if not filecmp.cmp(image, mount.folder / image.name, shallow=False):
            raise BenchmarkError(f"{image.name} is read changed from a mount of {name}")
    part.pages_verified += image.stat().st_size // PAGE_SIZE
    size = image.stat().st_size / MIB
    part.add(_TABLE, "read in order through a mount", name, "MiB/s", size / seconds)


def _beside(part: Part, work: Work, plain: Path) -> None:
    """fio on a file of a mount, alone and while the mount packs its other files."""
    if reason := mounts.obstacle() or fio.obstacle():
        part.absent["fio beside refining"] = reason
        return
    found: dict[tuple[str, str], list[fio.Outcome]] = {}
    for number in range(work.options.rounds):
        work.say(f"  fio beside refining, round {number + 1} of {work.options.rounds}")
        with mounts.Difffs(work.folder / "live", _copy(work, plain, "live-store")) as mount:
            _run_jobs(work, mount)  # makes the file
            for when in _WHEN:
                outcomes = _run_jobs(work, mount, refining=when == _REFINING)
                if outcomes is None:
                    part.notes.append(
                        "refining ended before fio did, which does not count: more images, or a"
                        " smaller --job-size"
                    )
                for job, outcome in outcomes or []:
                    found.setdefault((job.name, when), []).append(outcome)
    for (name, when), every in found.items():
        rates = [each.operations_per_second for each in every]
        part.add(_BESIDE_TABLE, f"{name}: a second", when, "", rates)
        slowest = [each.p99_us for each in every]
        part.add(_BESIDE_TABLE, f"{name}: p99", when, "us", slowest)
    for job in _JOBS:
        for what, goal, at_most in (("a second", 0.9, False), ("p99", 2.0, True)):
            subject = f"{job.name}: {what}"
            values = part.median(subject, _REFINING), part.median(subject, _ALONE)
            part.compare(f"{subject}, {_REFINING} / {_ALONE}", *values, goal, at_most=at_most)


def _run_jobs(
    work: Work, mount: mounts.Difffs, *, refining: bool = False
) -> list[tuple[fio.Job, fio.Outcome]] | None:
    """None where refining did not last as long."""
    command = [sys.executable, "-m", "difffs", "refine", str(mount.folder), "--json"]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere) if refining else None
    try:
        while process is not None and process.poll() is None and not _is_refining(mount):
            time.sleep(0.05)
        done = [(job, fio.run(job, work.options.job_bytes, folder=mount.folder)) for job in _JOBS]
        lasted = process is None or _is_refining(mount)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait()
    mount.settle()
    return done if lasted else None


def _is_refining(mount: mounts.Difffs) -> bool:
    return bool(read_statistics(mount.folder)["refine"]["running"])


def _look(part: Part, name: str, store: Path) -> None:
    found = json.loads(_difffs("stats", store, "--json"))
    sizes = found["bytes"]
    part.add(_TABLE, "factor", name, "", found["factor"])
    part.add(_TABLE, "stored", name, "MiB", sizes["stored"] / MIB)
    part.add(_TABLE, "slack / payload", name, "%", sizes["slack"] / sizes["payload"] * 100)
    part.add(_TABLE, "metadata", name, "MiB", sizes["metadata"] / MIB)
    read: dict[str, Any] = run_module("refine_reader", store, _READS)
    times = read["microseconds"]
    part.add(_TABLE, "a page by chance, mean", name, "us", statistics.mean(times))
    part.add(_TABLE, "a page by chance, p99", name, "us", times[int(len(times) * 0.99)])
    part.add(_TABLE, "read in order", name, "MiB/s", read["pages_a_second"] / 256)
    part.add(_TABLE, "pages decoded for each of a group, in order", name, "", read["decoded"])


def _difffs(*words: str | Path) -> str:
    return run_tool(sys.executable, "-m", "difffs", *words, seconds=3600)
