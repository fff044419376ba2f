"""What refining gives and costs: sizes, the rate of packing, and reading afterwards, by tier."""

from __future__ import annotations

import filecmp
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.result import Part
from benchmark.work import BenchmarkError, Work, run_module, run_tool
from difffs.refine.tiers import TIERS

MIB = 1 << 20
_PLAIN = "not refined"
_READS = 4000
_TABLE = "a store of all images"


def measure(work: Work) -> Part:
    """Store the images once, refine copies of that store to each tier, and compare exports."""
    part = Part("refine")
    plain = work.folder / "plain"
    for image in work.images.paths:
        _difffs("import", plain, image)
    try:
        _look(part, _PLAIN, plain)
        for tier in TIERS:
            work.say(f"  {tier}")
            _refine(part, work, plain, tier)
    finally:
        shutil.rmtree(plain, ignore_errors=True)
    return part


def _refine(part: Part, work: Work, plain: Path, tier: str) -> None:
    store = work.folder / tier
    run_tool("cp", "--archive", "--sparse=always", plain, store)
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
    finally:
        shutil.rmtree(store, ignore_errors=True)


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
