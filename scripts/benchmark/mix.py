"""What kinds of pages an image has: the generator's beside those of real images."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmark import zstd_tool
from benchmark.data import generate, prepare
from benchmark.options import Options
from benchmark.result import Part, render
from benchmark.work import run_module
from difffs import _kernels
from difffs.codec import Codec
from difffs.page import PAGE_SIZE

_SAMPLE = 8
"""One page in so many is compressed by itself for the distribution of sizes."""
_STEP = 512


def compare_mixes(options: Options, folder: Path) -> str:
    """Return a table: shares of the routes, sizes, speeds."""
    part = Part("the generator's pages beside real ones")
    generated = folder / "generated"
    size = min(options.size, 256 << 20)
    generate(generated, size)
    columns = {"generator": generated}
    columns |= {path.name: path for path in prepare(options, folder).paths if options.images}
    for name, path in columns.items():
        _describe(part, name, path, folder / "store")
    return render(part)


def _describe(part: Part, name: str, image: Path, store: Path) -> None:
    report = run_module("engine_worker", "import", "default", 1, store, image)
    shutil.rmtree(store)
    routes = report["routes"]
    for route, count in routes.items():
        if route != "total":
            part.add("route under default", route, name, "%", count / routes["total"] * 100)
    part.add("cost", "factor, default", name, "", report["factor"])
    part.add(
        "cost", "CPU a page, default", name, "us", report["cpu_seconds"] / report["pages"] * 1e6
    )
    if zstd_tool.obstacle() is None:
        speed = zstd_tool.measure(1, [image])
        part.add(
            "cost", "factor, zstd -b1", name, "", image.stat().st_size / speed.compressed_bytes
        )
        part.add("cost", "a page, zstd -b1", name, "us", 1e6 / speed.compress_pages_per_second)
    sizes = _compressed_sizes(image)
    part.add("unique pages compressed", "mean", name, "bytes", sum(sizes) / len(sizes))
    for low in range(0, PAGE_SIZE, _STEP):
        share = sum(low <= size < low + _STEP for size in sizes) / len(sizes) * 100
        part.add("unique pages compressed", f"{low} to {low + _STEP - 1} bytes", name, "%", share)


def _compressed_sizes(image: Path) -> list[int]:
    """Return what zstd 1 makes of a sample of the pages that are neither uniform nor copies."""
    context = _kernels.Context()
    seen: set[int] = set()
    sizes = []
    with image.open("rb") as file:
        for offset in range(0, image.stat().st_size, PAGE_SIZE * _SAMPLE):
            file.seek(offset)
            page = file.read(PAGE_SIZE)
            digest = _kernels.digest(page)
            if _kernels.same_word(page) is None and digest not in seen:
                seen.add(digest)
                payload = context.encode(Codec.ZSTD, page)
                sizes.append(PAGE_SIZE - 1 if payload is None else len(payload))
    return sizes
