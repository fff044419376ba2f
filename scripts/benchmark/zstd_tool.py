"""The zstd tool's own benchmark: the speed that the write path is measured against."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.generator import PAGE
from benchmark.work import BenchmarkError

_RESULT = re.compile(r"-> *(\d+) \(x *[\d.]+\), *([\d.]+) MB/s, *([\d.]+) MB/s")


def obstacle() -> str | None:
    """Say why the tool cannot be run, or None."""
    return None if shutil.which("zstd") else "no zstd (install the package zstd)"


@dataclass(frozen=True, slots=True)
class ZstdSpeed:
    """Of one level, on blocks of one page, one thread."""

    compressed_bytes: int
    compress_pages_per_second: float
    decompress_pages_per_second: float


def measure(level: int, images: Sequence[Path]) -> ZstdSpeed:
    """Run it; a negative level is one of --fast."""
    wish = f"-b{level}" if level > 0 else f"--fast={-level}"
    command = ["zstd", wish, *(["-b"] if level < 0 else []), f"-B{PAGE}", "-T1", "-i1"]
    done = subprocess.run(
        [*command, *map(str, images)], check=False, capture_output=True, text=True
    )
    # The tool shows its progress on one line, over and over.
    found = _RESULT.findall(done.stdout + done.stderr)
    if done.returncode != 0 or not found:
        raise BenchmarkError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-200:]}")
    size, compress, decompress = found[-1]
    return ZstdSpeed(int(size), float(compress) * 1e6 / PAGE, float(decompress) * 1e6 / PAGE)
