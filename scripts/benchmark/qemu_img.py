"""qemu-img as a client of files, block devices and NBD servers alike."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from benchmark.generator import PAGE
from benchmark.work import BenchmarkError, run_tool

_COMPLETED = re.compile(r"Run completed in ([\d.]+) seconds")
_STRIDE = 7919
"""Pages from one request to the next: prime, so that none is hit twice early."""
_PATTERN = 90


def obstacle() -> str | None:
    """Say why it cannot be run, or None."""
    return None if shutil.which("qemu-img") else "no qemu-img (install the package qemu-utils)"


def write_image(image: Path, target: str) -> float:
    """Copy an image to a target of its size; return the seconds."""
    began = time.perf_counter()
    raw = ("-f", "raw", "-O", "raw")
    run_tool("qemu-img", "convert", "-n", "-S", "0", *raw, "-t", "none", image, target)
    return time.perf_counter() - began


def _bench(target: str, count: int, block: int, depth: int, *more: str) -> float:
    said = run_tool(
        *("qemu-img", "bench", "-f", "raw", "-t", "none", "-c", str(count)),
        *("-s", str(block), "-d", str(depth), *more, target),
    )
    found = _COMPLETED.search(said)
    if found is None:
        raise BenchmarkError(f"qemu-img bench says {said[-200:]!r}")
    return max(float(found[1]), 1e-3)


def read_all(target: str, size: int) -> float:
    """Read front to back in MiB; return the seconds."""
    return _bench(target, size >> 20, 1 << 20, 1)


def read_pages(target: str, count: int, depth: int) -> float:
    """Read pages from here and there; return the seconds."""
    return _bench(target, count, PAGE, depth, "-S", str(PAGE * _STRIDE))


def write_pages(target: str, count: int, depth: int) -> float:
    """Write pages of one byte here and there (qemu-img has no other data); return the seconds."""
    more = ("-w", f"--pattern={_PATTERN}", "-S", str(PAGE * _STRIDE))
    return _bench(target, count, PAGE, depth, *more)


def verify(image: Path, target: str, written: int, folder: Path) -> int:
    """Compare all with the image and ``written`` pages of :func:`write_pages`; return the pages."""
    copy = folder / "read-back"
    expected = bytearray(image.read_bytes())
    for number in range(written):
        at = number * PAGE * _STRIDE % len(expected)
        expected[at : at + PAGE] = bytes([_PATTERN]) * PAGE
    try:
        run_tool("qemu-img", "convert", "-f", "raw", "-O", "raw", target, copy)
        if copy.read_bytes() != expected:
            raise BenchmarkError(f"{target} differs from what was written")
    finally:
        copy.unlink(missing_ok=True)
    return len(expected) // PAGE
