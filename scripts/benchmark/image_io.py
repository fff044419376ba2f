"""Real pages through a file or block device: what fio cannot write.

``python -m benchmark.image_io write|read TARGET direct|cached BLOCK IMAGE BYTES`` moves the first
BYTES of the image front to back, in blocks, and prints one JSON object. Reading compares every byte
outside of the measured time.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from pathlib import Path

from benchmark.work import BenchmarkError


def write(target: Path, flags: int, block: int, image: memoryview) -> dict[str, float]:
    """Write; ``accepted`` is until the last write returned, ``durable`` until fsync did."""
    exists = target.exists()
    file = os.open(target, os.O_RDWR | flags | (0 if exists else os.O_CREAT), 0o600)
    try:
        began = time.perf_counter()
        for offset in range(0, len(image), block):
            data = image[offset : offset + block]
            if os.pwrite(file, data, offset) != len(data):
                raise BenchmarkError(f"{target}: a short write at {offset}")
        accepted = time.perf_counter() - began
        os.fsync(file)
        durable = time.perf_counter() - began
    finally:
        os.close(file)
    return {"accepted": accepted, "durable": durable}


def read(target: Path, flags: int, block: int, image: memoryview) -> dict[str, float]:
    """Read and compare; nothing of the file is in the page cache at first."""
    file = os.open(target, os.O_RDONLY | flags)
    spent = 0.0
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        with memoryview(mmap.mmap(-1, block)) as buffer:
            for offset in range(0, len(image), block):
                wanted = image[offset : offset + block]
                began = time.perf_counter()
                length = os.preadv(file, [buffer[: len(wanted)]], offset)
                spent += time.perf_counter() - began
                if length != len(wanted) or buffer[:length] != wanted:
                    raise BenchmarkError(f"{target} differs from the image at {offset}")
    finally:
        os.close(file)
    return {"seconds": spent}


def main(arguments: list[str]) -> int:
    """Run as a command."""
    action, target, way, block, image, size = arguments
    flags = os.O_DIRECT if way == "direct" else 0
    move = {"write": write, "read": read}[action]
    length = int(size)
    # Copied first: the source shall be plain memory, aligned for direct I/O, at every contender.
    memory = memoryview(mmap.mmap(-1, length))
    with open(image, "rb", buffering=0) as file:
        have = 0
        while have < length and (count := file.readinto(memory[have:])):
            have += count
    print(json.dumps(move(Path(target), flags, int(block), memory[:have])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
