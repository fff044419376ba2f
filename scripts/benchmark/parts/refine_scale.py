"""Refining stores of several sizes with one worker: what a page costs, and the memory it takes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmark.host import memory_available
from benchmark.result import Part
from benchmark.work import Work, run_module, run_tool

MIB = 1 << 20
GIB = 1 << 30
_ROOM = 0.75
"""Of the logical size: the store, and the copy that is refined."""
_SECONDS = 4 * 3600
_GOALS = {"cold": 800, "rest": 300}
"""Pages a second and processor."""
_MOST_MEMORY = 160
"""MiB."""
_MOST_GROWTH = 1.2
"""Cost a page of the largest store, of that of the smallest."""
_TABLE = "a store of generated pages, one worker"
_COST, _MEMORY = "processor time a page", "memory at most"


def measure(work: Work) -> Part:
    """Make a store of generated pages of each size, refine a copy to each tier, verify it."""
    part = Part("refine_scale")
    sizes = sorted(work.options.refine_bytes)
    for size in sizes:
        needed = int(size * _ROOM) + (512 << 20)
        if needed > memory_available():
            part.absent[_name(size)] = f"needs {needed // MIB} MiB of free memory"
            continue
        work.say(f"  a store of {_name(size)}")
        plain = work.folder / "plain"
        try:
            run_module("scale_worker", "grow", plain, size, seconds=_SECONDS)
            for tier in work.options.tiers:
                work.say(f"  {tier}")
                _refine(part, work, plain, size, tier)
        finally:
            shutil.rmtree(plain, ignore_errors=True)
    measured = [_name(size) for size in sizes if _name(size) not in part.absent]
    if measured:
        _compare(part, work.options.tiers, measured)
    return part


def _refine(part: Part, work: Work, plain: Path, size: int, tier: str) -> None:
    store = work.folder / tier
    try:
        run_tool("cp", "--archive", "--sparse=always", plain, store)
        done = run_module(
            "refine_worker", store, tier, work.options.refine_seconds, seconds=_SECONDS
        )
        found = json.loads(run_tool(sys.executable, "-m", "difffs", "stats", store, "--json"))
        _report(part, tier, _name(size), done, found)
        checked = run_module("scale_worker", "verify", store, size, seconds=_SECONDS)
        part.pages_verified += checked["pages_verified"]
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _report(part: Part, tier: str, name: str, done: dict[str, Any], found: dict[str, Any]) -> None:
    sizes, who = found["bytes"], f"{tier}, {name}"
    part.add(_TABLE, "pages in all", who, "", done["pages"] + done["pages_to_go"])
    part.add(_TABLE, "pages refined", who, "", done["pages"])
    part.add(_TABLE, "of these in groups", who, "", done["members"])
    part.add(_TABLE, _COST, who, "us", done["cpu_seconds"] / done["pages"] * 1e6)
    part.add(_TABLE, _MEMORY, who, "MiB", done["peak_bytes"] / MIB)
    part.add(_TABLE, "factor", who, "", found["factor"])
    part.add(_TABLE, "stored", who, "MiB", sizes["stored"] / MIB)
    part.add(_TABLE, "slack / payload", who, "%", sizes["slack"] / sizes["payload"] * 100)


def _compare(part: Part, tiers: tuple[str, ...], names: list[str]) -> None:
    smallest, largest = names[0], names[-1]
    for tier in tiers:
        cost = part.median(_COST, f"{tier}, {largest}")
        memory = part.median(_MEMORY, f"{tier}, {largest}")
        part.compare(f"{tier}: pages a second and processor", 1e6, cost, _GOALS[tier])
        part.compare(f"{tier}: memory in MiB", memory, 1.0, _MOST_MEMORY, at_most=True)
        if smallest != largest:
            part.compare(
                f"{tier}: cost a page, {largest} / {smallest}",
                cost,
                part.median(_COST, f"{tier}, {smallest}"),
                _MOST_GROWTH,
                at_most=True,
            )


def _name(size: int) -> str:
    return f"{size / GIB:g} GiB"
