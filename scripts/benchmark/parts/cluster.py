"""The study on a cluster: digests and detectors of a few images and of many, made while they are
looked at; then the same in one process, whose results have to be the same files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from benchmark.dask_processes import DaskProcesses, dask_processes
from benchmark.host import peak_memory
from benchmark.result import Part
from benchmark.work import SCRIPTS, BenchmarkError, Work, run_module

WORKERS = 2
MIB = 1 << 20
PAGE = 4096

_LINEAR = 1.2
_MEMORY_MIB = 400
_TABLE = "digests and detectors of generated images"
_SECONDS = 4 * 3600.0


def measure(work: Work) -> Part:
    """Measure each number of images with a scheduler and workers of its own."""
    part = Part("cluster")
    if importlib.util.find_spec("distributed") is None:
        part.absent["cluster"] = "no Dask: pip install 'difffs[cluster]'"
        return part
    pages = work.options.cluster_image_bytes // PAGE
    counts = work.options.cluster_images
    for count in counts:
        work.say(f"  {count:,} images on a cluster")
        found = _on_cluster(part, work, count, pages)
    work.say(f"  {counts[-1]:,} images in one process")
    folder = work.folder / "here"
    alone = run_module("cluster_client", counts[-1], pages, folder, seconds=_SECONDS)
    if _digest(folder) != _digest(_results(work, counts[-1])):
        raise BenchmarkError("a cluster's results are not those of one process")
    for key in ("sharing", "detectors"):
        if alone[key] != found[key]:
            raise BenchmarkError(f"{key}: {found[key]} on a cluster, {alone[key]} in one process")
    part.add(_TABLE, f"{counts[-1]:,} images, one process", "time", "s", alone["seconds"])
    part.pages_verified = found["sharing"]["pages"]
    part.notes.append(
        f"images of {pages * PAGE // MIB} MiB; {WORKERS} workers; results equal, file by file"
    )
    _compare(part, counts)
    shutil.rmtree(folder)
    return part


def _results(work: Work, count: int) -> Path:
    return work.folder / f"cluster-{count}"


def _name(count: int) -> str:
    return f"{count:,} images, cluster"


def _on_cluster(part: Part, work: Work, count: int, pages: int) -> dict[str, Any]:
    home = work.folder / "dask"
    home.mkdir(exist_ok=True)
    results = _results(work, count)
    with dask_processes(home, WORKERS, {"PYTHONPATH": str(SCRIPTS)}) as processes:
        before = _processor_seconds(processes)
        found = run_module(
            "cluster_client", count, pages, results, processes.address, seconds=_SECONDS
        )
        used = _processor_seconds(processes) - before
        scheduler = peak_memory(processes.scheduler.pid)
    part.add(_TABLE, _name(count), "time", "s", found["seconds"])
    part.add(_TABLE, _name(count), "processor time of workers", "s", used)
    part.add(_TABLE, _name(count), "scheduler's peak", "MiB", scheduler / MIB)
    part.add(_TABLE, _name(count), "client's peak", "MiB", found["peak_rss"] / MIB)
    sizes = sum(path.stat().st_size for path in results.iterdir())
    part.add(_TABLE, _name(count), "results", "MiB", sizes / MIB)
    return found


def _compare(part: Part, counts: tuple[int, ...]) -> None:
    few, many = counts[0], counts[-1]
    for column in ("time", "processor time of workers"):
        part.compare(
            f"{column} an image, {many:,} / {few:,}",
            (part.median(_name(many), column) or 0) / many,
            (part.median(_name(few), column) or 0) / few,
            _LINEAR,
            at_most=True,
        )
    for column in ("scheduler's peak", "client's peak"):
        value = part.median(_name(many), column)
        part.compare(f"{column} in MiB", value, 1, _MEMORY_MIB, at_most=True)


def _processor_seconds(processes: DaskProcesses) -> float:
    """Of the workers and of the passes' processes that have ended."""
    ticks = 0
    for worker in processes.workers():
        words = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(word) for word in words[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _digest(folder: Path) -> str:
    """Of all results, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
