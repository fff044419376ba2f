"""Who uses a mount at the same time: one process each.

``python -m benchmark.neighbour KIND FILE IMAGE BYTES STOP`` works on a file until STOP appears; it
makes STOP with ``.begun`` appended once it is at work, and prints one JSON object at the end. FILE
holds the first BYTES of the image, but for ``write``, which makes it.

* ``read``: 4 KiB at random, direct; when each read began, and how long it took
* ``read-large``: 1 MiB at a time, direct, front to back, again and again
* ``write``: front to back, again and again with other bytes, an fsync every 4 MiB

Whatever is read is compared, between the reads that are timed.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.generator import PAGE
from benchmark.work import BenchmarkError

MIB = 1 << 20
PIECE = 4 * MIB
_LOOK = 64
"""Reads between two looks for STOP."""


class _Sign:
    """What tells others that work has begun, and this that it is to end."""

    def __init__(self, stop: Path) -> None:
        self._stop = stop

    def begun(self) -> None:
        Path(f"{self._stop}.begun").touch()

    def is_up(self) -> bool:
        return self._stop.exists()


def _read(path: Path, image: bytes, sign: _Sign) -> dict[str, Any]:
    source = random.Random(1)
    pages = len(image) // PAGE
    began: list[int] = []
    took: list[float] = []
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, PAGE) as buffer:
        sign.begun()
        while not sign.is_up():
            for _ in range(_LOOK):
                at = source.randrange(pages) * PAGE
                before = time.perf_counter_ns()
                length = os.preadv(file, [buffer], at)
                after = time.perf_counter_ns()
                if length != PAGE or buffer[:] != image[at : at + PAGE]:
                    raise BenchmarkError(f"{path}: the page at {at} was read wrong")
                began.append(before)
                took.append((after - before) / 1e3)
    os.close(file)
    return {"began_ns": began, "us": took, "pages_verified": len(took)}


def _read_large(path: Path, image: bytes, sign: _Sign) -> dict[str, Any]:
    verified = 0
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    wanted = memoryview(image)
    with memoryview(mmap.mmap(-1, MIB)) as buffer:
        sign.begun()
        while not sign.is_up():
            at = verified * PAGE % len(image)
            length = os.preadv(file, [buffer[: len(image) - at]], at)
            if not length or buffer[:length] != wanted[at : at + length]:
                raise BenchmarkError(f"{path}: what lies at {at} was read wrong")
            verified += length // PAGE
    os.close(file)
    return {"bytes": verified * PAGE, "pages_verified": verified}


def _changed(data: bytes, word: int) -> bytes:
    """Other bytes of about the same kind: each word is exclusive-ored with ``word``."""
    mask = word.to_bytes(8, "little") * (len(data) // 8)
    return (int.from_bytes(data) ^ int.from_bytes(mask)).to_bytes(len(data))


def _write(path: Path, image: bytes, sign: _Sign) -> dict[str, Any]:
    source = random.Random(2)
    words: dict[int, int] = {}  # by offset, of what was written there last
    written = 0
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    while not sign.is_up():
        at = written % len(image)
        words[at] = source.getrandbits(64) if written >= len(image) else 0
        data = _changed(image[at : at + PIECE], words[at])
        if os.pwrite(file, data, at) != len(data):
            raise BenchmarkError(f"{path}: a short write at {at}")
        os.fsync(file)
        if not written:
            sign.begun()
        written += len(data)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    pages = 0
    for at, word in words.items():
        data = image[at : at + PIECE]
        if os.pread(file, len(data), at) != _changed(data, word):
            raise BenchmarkError(f"{path} differs at {at} from what was written")
        pages += len(data) // PAGE
    os.close(file)
    return {"bytes": written, "pages_verified": pages}


def main(arguments: list[str]) -> int:
    """Run as a command."""
    kind, path, image, size, stop = arguments
    with open(image, "rb") as file:
        content = file.read(int(size))
    work = {"read": _read, "read-large": _read_large, "write": _write}[kind]
    print(json.dumps(work(Path(path), content, _Sign(Path(stop)))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
