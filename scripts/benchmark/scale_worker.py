"""One store growing to a large size; prints one JSON object.

``python -m benchmark.scale_worker grow STORE SIZE...`` stores generated pages, a volume for each
GiB, and notes at each size (ascending, in bytes) what a page costs and what the store takes.
``... verify STORE SIZE`` opens it, generates the same pages again and compares every one.

The pages come through a pipe from a process of its own: neither its time nor its memory counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from benchmark.host import memory_kinds
from benchmark.work import BenchmarkError, environment
from difffs import stats
from difffs.engine import Engine
from difffs.page import PAGE_SIZE
from difffs.store import Store

_VOLUME_BYTES = 1 << 30
_BATCH_BYTES = 4 << 20


@contextmanager
def _pages(count: int) -> Iterator[BinaryIO]:
    command = [sys.executable, "-m", "benchmark.generator", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as maker:
        assert maker.stdout is not None
        yield maker.stdout  # type: ignore[misc]
        maker.kill()


def _batches(stream: BinaryIO, size: int) -> Iterator[tuple[int, memoryview]]:
    """Iterate over (offset, bytes); each whole but the last."""
    buffer = memoryview(bytearray(_BATCH_BYTES))
    for offset in range(0, size, _BATCH_BYTES):
        wanted = min(_BATCH_BYTES, size - offset)
        have = 0
        while have < wanted:
            count = stream.readinto(buffer[have:wanted])  # type: ignore[attr-defined]
            if not count:
                raise BenchmarkError("the generator has ended too soon")
            have += count
        yield offset, buffer[:wanted]


def grow(path: Path, sizes: list[int]) -> dict[str, Any]:
    """Store pages up to the last size."""
    points: list[dict[str, Any]] = []
    seconds = cpu = 0.0
    with Store.create(path) as store, Engine(store) as engine:
        with _pages(sizes[-1] // PAGE_SIZE) as stream:
            volume = -1
            for offset, data in _batches(stream, sizes[-1]):
                began, began_cpu = time.perf_counter(), time.process_time()
                at = offset % _VOLUME_BYTES
                if at == 0:
                    volume = _new_volume(store, offset, sizes[-1])
                first = at // PAGE_SIZE
                engine.write(volume, range(first, first + len(data) // PAGE_SIZE), data)
                if offset + len(data) in sizes:
                    engine.commit()
                seconds += time.perf_counter() - began
                cpu += time.process_time() - began_cpu
                if offset + len(data) in sizes:
                    points.append(_point(store, offset + len(data), seconds, cpu))
        closing = time.perf_counter()
    return {"points": points, "close_seconds": time.perf_counter() - closing}


def _new_volume(store: Store, offset: int, end: int) -> int:
    inode = store.namespace.create(f"/{offset // _VOLUME_BYTES}", 0o600, 0, 0)
    store.namespace.set_size(inode, min(_VOLUME_BYTES, end - offset))
    return inode.number


def _point(store: Store, size: int, seconds: float, cpu: float) -> dict[str, Any]:
    report = stats.collect(store)
    return {
        "size": size,
        "pages": size // PAGE_SIZE,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "objects": report["objects"],
        "bytes": report["bytes"],
        "factor": report["factor"],
        "memory": memory_kinds(),
    }


def verify(path: Path, size: int) -> dict[str, Any]:
    """Open the store and compare every page."""
    began = time.perf_counter()
    with Store.open(path) as store, Engine(store) as engine:
        opening = time.perf_counter() - began
        opened = memory_kinds()
        out = memoryview(bytearray(_BATCH_BYTES))
        seconds = 0.0
        with _pages(size // PAGE_SIZE) as stream:
            for offset, data in _batches(stream, size):
                began = time.perf_counter()
                volume = store.namespace.lookup(f"/{offset // _VOLUME_BYTES}").number
                first = offset % _VOLUME_BYTES // PAGE_SIZE
                engine.read(volume, first, len(data) // PAGE_SIZE, out)
                seconds += time.perf_counter() - began
                if out[: len(data)] != data:
                    raise BenchmarkError(f"the store differs in the 4 MiB at {offset}")
        return {
            "open_seconds": opening,
            "memory_opened": opened,
            "memory_read": memory_kinds(),
            "read_seconds": seconds,
            "pages_verified": size // PAGE_SIZE,
        }


def main(arguments: list[str]) -> int:
    """Run as a command."""
    match arguments:
        case ["grow", store, *sizes] if sizes:
            report = grow(Path(store), sorted(int(size) for size in sizes))
        case ["verify", store, size]:
            report = verify(Path(store), int(size))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
