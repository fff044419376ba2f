"""Importing and reading pages with the engine alone, against the zstd tool's own benchmark."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

from benchmark import zstd_tool
from benchmark.result import Part
from benchmark.work import Work, run_module
from benchmark.zstd_tool import ZstdSpeed

ZSTD_LEVELS = (1, -1, -3, -5)
WORKERS = (1, 2)
READS = 20_000
_RATE = "pages/s"
_IMPORTS = "import, durable at the end"
_READS = "random single pages"


def measure(work: Work) -> Part:
    """Measure all recipes with one and two workers, and the tool."""
    part = Part("engine")
    contenders: dict[str, Any] = {}
    if (reason := zstd_tool.obstacle()) is None:
        for level in ZSTD_LEVELS:
            name = f"zstd -b{level}" if level > 0 else f"zstd --fast={-level}"
            contenders[name] = partial(zstd_tool.measure, level, work.images.paths)
    else:
        part.absent["zstd -b1"] = reason
    for recipe in work.options.recipes:
        for workers in WORKERS:
            contenders[_name(recipe, workers)] = partial(_import, work, recipe, workers)
    results = work.rounds(contenders)
    _report_zstd(part, work, results)
    for recipe in work.options.recipes:
        _report_recipe(part, work, recipe, results)
    _compare(part, work)
    _random_reads(part, work)
    return part


def _name(recipe: str, workers: int) -> str:
    return f"{recipe}, {workers} worker{'s' if workers > 1 else ''}"


def _import(work: Work, recipe: str, workers: int) -> dict[str, Any]:
    store = work.folder / "import"
    try:
        return run_module("engine_worker", "import", recipe, workers, store, *work.images.paths)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _report_zstd(part: Part, work: Work, results: dict[str, list[Any]]) -> None:
    for name, speeds in results.items():
        if isinstance(speeds[0], ZstdSpeed):
            part.add(_IMPORTS, name, "import", _RATE, [s.compress_pages_per_second for s in speeds])
            part.add(_IMPORTS, name, "factor", "", work.images.size / speeds[0].compressed_bytes)
            part.add(
                _IMPORTS,
                name,
                "1 MiB reads",
                _RATE,
                [s.decompress_pages_per_second for s in speeds],
            )


def _report_recipe(
    part: Part, work: Work, recipe: str, results: dict[str, list[dict[str, Any]]]
) -> None:
    for workers in WORKERS:
        name = _name(recipe, workers)
        runs = results[name]
        part.add(_IMPORTS, name, "import", _RATE, [run["pages"] / run["seconds"] for run in runs])
        part.add(
            _IMPORTS,
            name,
            "CPU",
            "us/page",
            [run["cpu_seconds"] / run["pages"] * 1e6 for run in runs],
        )
        part.add(_IMPORTS, name, "factor", "", [run["factor"] for run in runs])
        part.add(
            _IMPORTS,
            name,
            "1 MiB reads",
            _RATE,
            [run["pages"] / run["read_seconds"] for run in runs],
        )
        part.add(
            _IMPORTS,
            name,
            "metadata",
            "B/object",
            [run["bytes"]["metadata"] / max(1, run["objects"]) for run in runs],
        )
        part.pages_verified += sum(run["pages_verified"] for run in runs)


def _compare(part: Part, work: Work) -> None:
    tool = part.median("zstd -b1", "import")
    default = part.median(_name("default", 1), "import")
    fast = part.median(_name("fast", 1), "import")
    part.compare("import default / zstd -b1", default, tool, 0.9, target=1)
    part.compare("import fast / zstd -b1", fast, tool, 1.6, target=1)
    part.compare("import fast / import default", fast, default)
    part.compare(
        "import default, 2 workers / 1",
        part.median(_name("default", 2), "import"),
        default,
        1.6,
        target=1,
    )
    for recipe in work.options.recipes:
        if recipe not in ("default", "fast"):
            part.compare(
                f"import {recipe} / zstd -b1", part.median(_name(recipe, 1), "import"), tool
            )


def _random_reads(part: Part, work: Work) -> None:
    """Single random pages of the images under the default recipe, and the codecs alone."""
    store = work.folder / "reads"
    recipe = work.options.recipes[0]
    try:
        run_module("engine_worker", "import", recipe, 1, store, *work.images.paths)
        count = min(READS, work.images.pages)
        runs = []
        for number in range(work.options.rounds):
            work.say(f"  round {number + 1} of {work.options.rounds}: random reads")
            runs.append(run_module("engine_worker", "read", store, count, number + 1))
    finally:
        shutil.rmtree(store, ignore_errors=True)
    subject = recipe
    for key, name in (
        ("mean_us", "mean"),
        ("p50_us", "p50"),
        ("p99_us", "p99"),
        ("codec_us", "codecs alone"),
    ):
        part.add(_READS, subject, name, "us", [run[key] for run in runs])
        for route in runs[0]["routes"]:
            those = [run["routes"][route][key] for run in runs if route in run["routes"]]
            part.add(_READS, f"  {route}", name, "us", those)
    part.compare(
        "random reads, mean / codecs alone",
        part.median(subject, "mean"),
        part.median(subject, "codecs alone"),
        1.5,
        at_most=True,
        target=2,
    )
    part.compare(
        "random reads, p99 in us", part.median(subject, "p99"), 1.0, 20.0, at_most=True, target=2
    )
