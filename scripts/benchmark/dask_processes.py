"""A Dask scheduler and workers in processes of their own, on loopback, as ``dask scheduler`` and
``dask worker`` start them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_START_SECONDS = 60.0
_NO_DASHBOARD = ("--dashboard-address", "127.0.0.1:0", "--no-dashboard")
"""Without an address a scheduler takes port 8787 all the same."""

_END_SECONDS = 10.0
_LOOK_SECONDS = 0.05

Process = subprocess.Popen[bytes]


@dataclass(slots=True)
class DaskProcesses:
    """What was started."""

    folder: Path
    scheduler: Process
    address: str
    nannies: list[Process] = field(default_factory=list)
    """Each watches one worker's process, and starts it again."""

    def start_worker(self, environment: Mapping[str, str] | None = None, threads: int = 1) -> None:
        """Start a worker with its nanny."""
        command = [
            *("-m", "distributed.cli.dask_worker", self.address, "--no-dashboard"),
            *("--nthreads", str(threads), "--memory-limit", "0"),
            *("--local-directory", str(self.folder)),
        ]
        self.nannies.append(_start(command, self.folder, environment))

    def workers(self) -> list[int]:
        """Return the workers' process numbers; one that is being started may be missing."""
        return [
            child
            for nanny in self.nannies
            for child in _children(nanny.pid)
            if b"spawn_main" in _command_line(child)
        ]


@contextmanager
def dask_processes(
    folder: Path, workers: int, environment: Mapping[str, str] | None = None
) -> Iterator[DaskProcesses]:
    """Start a scheduler and workers of a thread each, which put their files into the folder; all
    of them end with the block."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    command = [
        *("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
        *(*_NO_DASHBOARD, "--scheduler-file", str(file)),
    ]
    scheduler = _start(command, folder, environment)
    started = DaskProcesses(folder, scheduler, "")
    try:
        started.address = _address(file, scheduler)
        for _ in range(workers):
            started.start_worker(environment)
        yield started
    finally:
        _end([*started.nannies, scheduler], started.workers())


def _end(processes: list[Process], workers: list[int]) -> None:
    """End all at once: nothing is to be kept, and a worker takes its time to end in good order."""
    for process in processes:
        process.kill()
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    end = time.monotonic() + _END_SECONDS
    for process in processes:
        process.wait()
        # the rest of its session: what removes the semaphores of processes that have gone
        while _is_there(process.pid) and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _start(arguments: list[str], folder: Path, environment: Mapping[str, str] | None) -> Process:
    with (folder / "dask.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _address(file: Path, scheduler: Process) -> str:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and scheduler.poll() is None:
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError):
            time.sleep(_LOOK_SECONDS)
    raise RuntimeError(f"no scheduler: see {file.with_name('dask.log')}")


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
