"""stressapptest, whose memory is a mapped file of the mount, and which writes files beside it."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

from trial import cgroup

from outside.suite import Outcome, Run, Suite, SuiteError, last_lines, missing, run_tool
from tests.integration import harness
from tests.integration.harness import difffs

_MEMORY_MIB = 128
_RESIDENT_MIB = 64
_WRITTEN_AT_LEAST = 64 << 20


def _obstacle() -> str | None:
    return harness.obstacle() or cgroup.obstacle() or missing("stressapptest", "gcc")


def _preloaded(folder: Path) -> Path:
    library = folder / "mapped_memory.so"
    source = Path(__file__).with_name("mapped_memory.c")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = ["gcc", *flags, "-o", str(library), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SuiteError(f"gcc: {done.stderr.strip()[-500:]}")
    return library


def _run(run: Run) -> Outcome:
    outcome = Outcome()
    seconds = run.seconds(30)
    log = run.evidence / "log"
    library = _preloaded(run.evidence)
    with harness.mounted_store() as mounted, ExitStack() as stack:
        # less than the file: so its pages leave the page cache and come back
        group = stack.enter_context(
            cgroup.MemoryCgroup(f"difffs-outside-{os.getpid()}", _RESIDENT_MIB << 20)
        )
        memory = mounted.path / "memory"
        words = ["-s", str(seconds), "-M", str(_MEMORY_MIB), "-m", "1", "-i", "1"]
        files: list[str | Path] = [
            "-f",
            mounted.path / "one",
            "-f",
            mounted.path / "two",
            "--filesize",
            "8388608",
        ]
        status = run_tool(
            ["stressapptest", *words, *files],
            log,
            seconds=seconds + 300,
            folder=run.evidence,
            environment={
                **os.environ,
                "LD_PRELOAD": str(library),
                "DIFFFS_MAPPED_FILE": str(memory),
            },
            enter=group.enter,
        )
        said = log.read_text(errors="replace")
        told = json.loads(difffs("stats", mounted.path, "--json").stdout)
        written = sum(route["bytes_in"] for route in told["routes"].values())
        if status or "Status: PASS" not in said:
            outcome.failed.append(f"exit status {status}: {last_lines(log)}")
        elif memory.stat().st_size < _MEMORY_MIB << 20 or written < _WRITTEN_AT_LEAST:
            outcome.failed.append(f"only {written >> 20} MiB were written: it tried nothing")
        else:
            outcome.passed += 1
        outcome.remarks.append(f"{seconds} s, {written >> 20} MiB written to the store")
        mounted.remount()
    return outcome


SUITE = Suite(
    "stressapptest",
    "stressapptest on a mapped file of the mount, and on files that it writes there",
    {},
    _obstacle,
    _run,
)
