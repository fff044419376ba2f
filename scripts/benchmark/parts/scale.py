"""One store growing to 16 GiB of distinct pages: what a page costs, and what the index takes."""

from __future__ import annotations

import shutil
import statistics
from typing import Any

from benchmark.host import memory_available
from benchmark.result import Part
from benchmark.work import Work, run_module

MIB = 1 << 20
GIB = 1 << 30
_ROOM = 0.6
"""Of the logical size: more than the store can take, with the generator's pages."""
_TABLE = "one store, growing"
_OPENINGS = "the largest store opened anew"


def measure(work: Work) -> Part:
    """Grow a store once, look at it at each size, open it a few times, compare every page."""
    part = Part("scale")
    sizes = []
    for size in sorted(work.options.scale_bytes):
        needed = int(size * _ROOM) + (256 << 20)
        if needed > memory_available():
            part.absent[_name(size)] = f"needs {needed // MIB} MiB of free memory"
        else:
            sizes.append(size)
    if not sizes:
        return part
    store = work.folder / "scale"
    try:
        work.say(f"  growing to {_name(sizes[-1])}")
        grown = run_module("scale_worker", "grow", store, *sizes)
        openings = []
        for number in range(work.options.rounds):
            work.say(f"  opening {number + 1} of {work.options.rounds}")
            openings.append(run_module("scale_worker", "verify", store, 0))
        work.say("  comparing every page")
        checked = run_module("scale_worker", "verify", store, sizes[-1])
    finally:
        shutil.rmtree(store, ignore_errors=True)
    _report(part, grown["points"])
    part.add(_OPENINGS, "time", "", "s", [one["open_seconds"] for one in openings])
    own = [one["memory_opened"]["anonymous"] / MIB for one in openings]
    part.add(_OPENINGS, "anonymous memory", "", "MiB", own)
    after = checked["memory_read"]["anonymous"] / MIB
    part.add(_OPENINGS, "anonymous memory, all read", "", "MiB", after)
    rate = checked["pages_verified"] / checked["read_seconds"]
    part.add(_OPENINGS, "sequential reading", "", "pages/s", rate)
    part.pages_verified = checked["pages_verified"]
    _compare(part, grown["points"], [one["open_seconds"] for one in openings], after)
    return part


def _name(size: int) -> str:
    return f"{size / GIB:g} GiB"


def _report(part: Part, points: list[dict[str, Any]]) -> None:
    for point in points:
        name = _name(point["size"])
        for subject, unit, value in _values(point):
            part.add(_TABLE, subject, name, unit, value)


def _values(point: dict[str, Any]) -> list[tuple[str, str, float]]:
    pages, sizes, memory = point["pages"], point["bytes"], point["memory"]
    return [
        ("wall time a page", "us", point["seconds"] / pages * 1e6),
        ("processor time a page", "us", point["cpu_seconds"] / pages * 1e6),
        ("factor", "", point["factor"]),
        ("stored", "MiB", sizes["stored"] / MIB),
        ("slack / payload", "%", sizes["slack"] / sizes["payload"] * 100),
        ("metadata a stored unique page", "bytes", sizes["metadata"] / point["objects"]),
        ("anonymous memory", "MiB", memory["anonymous"] / MIB),
        ("mapped files of the store", "MiB", memory["shared"] / MIB),
    ]


def _compare(part: Part, points: list[dict[str, Any]], openings: list[float], after: float) -> None:
    last = _name(points[-1]["size"])
    cost = {name: part.median("wall time a page", name) for name in _names(points)}
    part.compare(
        f"wall time a page: {last} / {_name(int(str(points[0]['size'])))}",
        cost[last],
        cost[_names(points)[0]],
        1.25,
        at_most=True,
        target=6,
    )
    per_page = part.median("metadata a stored unique page", last)
    part.compare(f"metadata bytes a page at {last}", per_page, 1.0, 40, at_most=True, target=6)
    memory = max(part.median("anonymous memory", name) or 0.0 for name in _names(points))
    part.compare(
        "anonymous memory in MiB, at most",
        max(memory, after),
        1.0,
        64,
        at_most=True,
        target=6,
    )
    part.compare(
        f"opening at {last} in s", statistics.median(openings), 1.0, 1, at_most=True, target=6
    )


def _names(points: list[dict[str, Any]]) -> list[str]:
    return [_name(point["size"]) for point in points]
