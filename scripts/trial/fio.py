"""fio with verification: everything written is read back and its checksums compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


def obstacle() -> str | None:
    """Say why fio cannot run here, or None."""
    return None if shutil.which("fio") else "no fio (install the package fio)"


@dataclass(frozen=True, slots=True)
class FioResult:
    """What a job moved: bytes, and bytes a second."""

    written: int
    read: int
    write_rate: int
    read_rate: int


def run(folder: Path, mebibytes: int = 64, seconds: float = 120) -> FioResult:
    """Write a file at random in blocks of 4 to 64 KiB, then read and verify all of it.

    The page cache is dropped between the two, so that the reads reach the mount. Raises OSError
    with fio's own words when a block is wrong or fio fails.
    """
    command = [
        "fio",
        "--name=difffs",
        f"--directory={folder.absolute()}",
        f"--size={mebibytes}M",
        "--rw=randwrite",
        "--bsrange=4k-64k",
        "--ioengine=psync",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--buffer_compress_percentage=60",
        "--buffer_compress_chunk=4k",
        "--refill_buffers=1",
        "--fsync_on_close=1",
        "--invalidate=1",
        "--randseed=7",
        "--output-format=json",
    ]
    # fio leaves files where it runs: notes of verifications, dumps of blocks that were wrong.
    with tempfile.TemporaryDirectory(prefix="difffs-fio-") as current:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=seconds, cwd=current
        )
    if done.returncode != 0:
        raise OSError("fio: " + (done.stderr or done.stdout).strip()[-500:])
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    if job["error"]:
        raise OSError(f"fio: error {job['error']}")
    return FioResult(
        written=job["write"]["io_bytes"],
        read=job["read"]["io_bytes"],
        write_rate=job["write"]["bw_bytes"],
        read_rate=job["read"]["bw_bytes"],
    )
