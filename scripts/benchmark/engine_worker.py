"""The engine measured in a process of its own; prints one JSON object.

``python -m benchmark.engine_worker import RECIPE WORKERS STORE IMAGE...`` makes a store, imports
the images as ``difffs import`` does, commits, then opens the store anew and compares every page.
``... read STORE COUNT SEED`` reads that many random pages one by one, and decodes the same payloads
without a store.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmark.objects import Payloads
from benchmark.work import BenchmarkError
from difffs import stats
from difffs.engine import Engine
from difffs.image import ImageReader
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store.page_tables import HOLE

_READ_BYTES = 1 << 20


def _chunks(image: Path, buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Iterate over (offset, bytes) of a file."""
    with image.open("rb", buffering=0) as file:
        offset = 0
        while length := file.readinto(buffer):
            yield offset, buffer[:length]
            offset += length


def _open(image: Path) -> int:
    return os.open(image, os.O_RDONLY | os.O_CLOEXEC)


def import_images(recipe: str, workers: int, path: Path, images: list[Path]) -> dict[str, Any]:
    """Import, durable at the end: the clock runs from the empty store to the commit."""
    names = [f"/{number}" for number in range(len(images))]
    with Store.create(path, recipe) as store, Engine(store, workers) as engine:
        began, began_cpu = time.perf_counter(), time.process_time()
        for name, image in zip(names, images, strict=True):
            inode = store.namespace.create(name, 0o600, 0, 0)
            store.namespace.set_size(inode, image.stat().st_size)
            # holes are read as all contenders read them
            with closing(
                ImageReader(_open(image), image.name, ahead=workers > 1, holes=True)
            ) as reader:
                for offset, data in reader.batches():
                    first = offset // PAGE_SIZE
                    engine.write(inode.number, range(first, first + len(data) // PAGE_SIZE), data)
        engine.commit()
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        began = time.perf_counter()
    closing_seconds = time.perf_counter() - began
    pages = sum(image.stat().st_size for image in images) // PAGE_SIZE
    return {
        "pages": pages,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "close_seconds": closing_seconds,
        **_read_back(path, names, images),
    }


def _read_back(path: Path, names: list[str], images: list[Path]) -> dict[str, Any]:
    """Compare every byte, reading 1 MiB at a time; tell how long the reading took."""
    out, buffer = memoryview(bytearray(_READ_BYTES)), memoryview(bytearray(_READ_BYTES))
    seconds = 0.0
    pages = 0
    began = time.perf_counter()
    with Store.open(path) as store, Engine(store) as engine:
        opening = time.perf_counter() - began
        for name, image in zip(names, images, strict=True):
            volume = store.namespace.lookup(name).number
            for offset, data in _chunks(image, buffer):
                count = len(data) // PAGE_SIZE
                began = time.perf_counter()
                engine.read(volume, offset // PAGE_SIZE, count, out)
                seconds += time.perf_counter() - began
                if out[: len(data)] != data:
                    raise BenchmarkError(f"{image} differs in the MiB at {offset}")
                pages += count
        report = stats.collect(store)
    return {
        "open_seconds": opening,
        "read_seconds": seconds,
        "pages_verified": pages,
        "factor": report["factor"],
        "bytes": report["bytes"],
        "routes": report["pages"],
        "objects": report["objects"],
    }


def read_pages(path: Path, count: int, seed: int) -> dict[str, Any]:
    """Read random pages singly; nothing is cached that a store just opened does not have."""
    out = bytearray(PAGE_SIZE)
    clock = time.perf_counter_ns
    with Store.open(path) as store, Engine(store) as engine:
        pages = [
            (inode.number, page)
            for inode in store.namespace.volumes()
            for page in range(inode.size // PAGE_SIZE)
        ]
        sample = random.Random(seed).sample(pages, min(count, len(pages)))
        sample = [(v, p) for v, p in sample if store.lookup(v, p, 1)[0] != HOLE]
        spent = []
        for volume, page in sample:
            began = clock()
            engine.read(volume, page, 1, out)
            spent.append(clock() - began)
        ids = [store.lookup(volume, page, 1)[0] for volume, page in sample]
        payloads = Payloads(store)
        codecs = payloads.decode_times(ids)
        routes = payloads.routes(ids)
    return _read_report(spent, codecs, routes)


def _read_report(spent: list[int], codecs: list[float], routes: list[str]) -> dict[str, Any]:
    by_route: dict[str, dict[str, Any]] = {}
    for route in sorted(set(routes)):
        those = [at for at, name in enumerate(routes) if name == route]
        ordered = sorted(spent[at] for at in those)
        by_route[route] = {
            "pages": len(those),
            "mean_us": statistics.fmean(ordered) / 1e3,
            "p50_us": ordered[len(ordered) // 2] / 1e3,
            "p99_us": ordered[len(ordered) * 99 // 100] / 1e3,
            "codec_us": statistics.fmean(codecs[at] for at in those) / 1e3,
        }
    ordered = sorted(spent)
    return {
        "pages": len(spent),
        "mean_us": statistics.fmean(spent) / 1e3,
        "p50_us": ordered[len(ordered) // 2] / 1e3,
        "p99_us": ordered[len(ordered) * 99 // 100] / 1e3,
        "codec_us": statistics.fmean(codecs) / 1e3,
        "routes": by_route,
    }


def main(arguments: list[str]) -> int:
    """Run as a command."""
    match arguments:
        case ["import", recipe, workers, store, *images]:
            report = import_images(recipe, int(workers), Path(store), [Path(i) for i in images])
        case ["read", store, count, seed]:
            report = read_pages(Path(store), int(count), int(seed))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    json.dump(report, sys.stdout)
    sys.stdout.flush()
    return os.EX_OK


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
