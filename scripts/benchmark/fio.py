"""fio jobs: fixed amounts of data, checked by fio itself or by the caller."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmark.work import BenchmarkError

COMPRESSIBLE = 70
"""Per cent of each written page that is zeros, the rest random: compresses to 1.2 KB, as real
pages do in the mean."""


def obstacle() -> str | None:
    """Say why fio cannot be run, or None."""
    return None if shutil.which("fio") else "no fio (install the package fio)"


@dataclass(frozen=True, slots=True)
class Job:
    """What fio shall do."""

    mode: str
    """read, write, randread or randwrite."""
    block: int
    jobs: int
    direct: bool

    @property
    def name(self) -> str:
        """As it stands in the tables."""
        size = f"{self.block >> 10} KiB" if self.block < 1 << 20 else f"{self.block >> 20} MiB"
        order = "random" if self.mode.startswith("rand") else "sequential"
        verb = self.mode.removeprefix("rand") + "s"
        way = "direct" if self.direct else "cached"
        return f"{size} {order} {verb}, {way}, {self.jobs} job{'s' if self.jobs > 1 else ''}"

    @property
    def writes(self) -> bool:
        """Whether data is written."""
        return self.mode.endswith("write")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run, all jobs together."""

    operations_per_second: float
    bytes_per_second: float
    p99_us: float


def run(job: Job, size: int, *, folder: Path | None = None, device: str = "") -> Outcome:
    """Move ``size`` bytes, each once, in files ``f.N`` of a folder or on a block device.

    What is written carries checksums, which :func:`verify` looks at afterwards.
    """
    return _fio(job, size, folder, device, verifying=False)


def verify(job: Job, size: int, *, folder: Path | None = None, device: str = "") -> int:
    """Read what a writing job has left and compare checksums; return the pages verified."""
    reading = Job("read", job.block, job.jobs, job.direct)
    _fio(reading, size, folder, device, verifying=True)
    return size // 4096


def _fio(job: Job, size: int, folder: Path | None, device: str, *, verifying: bool) -> Outcome:
    share = size // job.jobs // job.block * job.block
    words = [
        "fio", "--name=bench", "--output-format=json", "--group_reporting", "--thread",
        "--ioengine=psync", "--invalidate=1", "--fallocate=none", "--file_service_type=sequential",
        f"--rw={job.mode}", f"--bs={job.block}", f"--numjobs={job.jobs}", f"--size={share}",
        f"--direct={int(job.direct)}", "--randrepeat=1", "--allow_file_create=1",
    ]  # fmt: skip
    if device:
        words += [f"--filename={device}", f"--offset_increment={share}"]
    elif folder:
        words += [f"--directory={folder.absolute()}", "--filename_format=f.$jobnum"]
    if job.writes or verifying:
        words += ["--verify=crc32c", "--verify_interval=4096", "--do_verify=0"]
        words += ["--verify_state_save=0"]
        words += [f"--buffer_compress_percentage={COMPRESSIBLE}", "--refill_buffers"]
    if verifying:
        words[words.index("--do_verify=0")] = "--do_verify=1"
    # fio leaves files where it runs: notes of verifications, dumps of blocks that were wrong.
    with tempfile.TemporaryDirectory(prefix="difffs-fio-") as current:
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, timeout=900, cwd=current
        )
    if done.returncode != 0:
        raise BenchmarkError(f"fio {job.name}: {(done.stderr or done.stdout).strip()[-500:]}")
    report = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    if report["error"]:
        raise BenchmarkError(f"fio {job.name}: error {report['error']}")
    side = report["write" if job.writes else "read"]
    percentiles = side["clat_ns"].get("percentile", {})
    return Outcome(side["iops"], side["bw_bytes"], percentiles.get("99.000000", 0) / 1e3)
