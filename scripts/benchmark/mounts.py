"""The file systems that are compared: a difffs mount, null file systems, plain tmpfs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from benchmark.host import CpuClock
from benchmark.work import BenchmarkError, environment, run_tool
from difffs.mount.kernel_tuning import KernelTuning
from difffs.mount.live import mount_at
from difffs.mount.options import default_options
from difffs.mount.unmount import unmount
from difffs.mount.write_back import commit, write_back

_SECONDS = 60
_NULL_IN_PYTHON = ("-m", "benchmark.null_filesystem")
_NULL_IN_C = Path(__file__).with_name("null_filesystem.c")


def obstacle() -> str | None:
    """Say why nothing can be mounted here, or None."""
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse (modprobe fuse; in a container: pass the device in)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened: run as root"
    return None


def build_null(folder: Path) -> Path:
    """Build the null file system in C; return its program. BenchmarkError with what is missing."""
    program = folder / "null_filesystem"
    try:
        flags = run_tool("pkg-config", "--cflags", "--libs", "fuse3").split()
        run_tool("gcc", "-std=gnu11", "-O2", "-o", program, _NULL_IN_C, *flags)
    except FileNotFoundError as error:
        raise BenchmarkError(f"no {error.filename} (install gcc and pkg-config)") from None
    except BenchmarkError as error:
        raise BenchmarkError(f"cannot be built (install libfuse3-dev): {error}") from None
    return program


class Filesystem(Protocol):
    """A folder to put files in, and what serving it costs."""

    folder: Path

    def settle(self) -> None:
        """Return when nothing of earlier work is left to be done."""

    def cpu_seconds(self) -> float:
        """Return the processor time that its server has used so far."""


class Tmpfs:
    """A folder of the tmpfs that everything lies on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Tmpfs:
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def settle(self) -> None:
        """There is never anything left."""

    def cpu_seconds(self) -> float:
        """Nobody serves it."""
        return 0.0


class _Served:
    """A FUSE mount with its server as a child process."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.folder = folder
        self._command = command
        self._log = folder.with_suffix(".log")
        self.process: subprocess.Popen[bytes]
        self._clock: CpuClock

    def _start(self) -> None:
        self.folder.mkdir()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        self._clock = CpuClock(self.process.pid)
        deadline = time.monotonic() + _SECONDS
        while mount_at(self.folder) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{self.folder} was not mounted: {self._said()}")
            time.sleep(0.02)
        os.stat(self.folder)
        time.sleep(0.2)  # the limits of dirty pages are lifted just behind the mount

    def _said(self) -> str:
        return self._log.read_text(errors="replace").strip()[-500:]

    def _wait(self) -> None:
        try:
            self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise BenchmarkError(f"the server of {self.folder} did not end") from None
        self.folder.rmdir()

    def cpu_seconds(self) -> float:
        """Return the processor time that the server has used so far."""
        return self._clock.seconds()


class Difffs(_Served):
    """A new store, mounted."""

    def __init__(self, folder: Path, store: Path, options: str = "") -> None:
        self.store = store
        command = [sys.executable, "-m", "difffs", "mount", "--foreground", str(store), str(folder)]
        super().__init__(folder, command + (["-o", options] if options else []))

    def __enter__(self) -> Difffs:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        unmount(str(self.folder))
        self._wait()
        shutil.rmtree(self.store)

    def settle(self) -> None:
        """Return when everything written is committed to the store."""
        write_back(self.folder)
        commit(self.folder)


class Null(_Served):
    """The null file system in Python, or with its program the one in C."""

    def __init__(self, folder: Path, program: Path | None = None) -> None:
        self._in_c = program is not None
        command = [program or sys.executable, *([] if program else _NULL_IN_PYTHON), folder]
        super().__init__(folder, [str(word) for word in command])

    def _start(self) -> None:
        super()._start()
        if self._in_c:  # the one in Python does so itself
            tuning = KernelTuning(default_options().read_ahead_bytes)
            tuning.apply_to_mount(os.stat(self.folder).st_dev)

    def __enter__(self) -> Null:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
        self._wait()

    def settle(self) -> None:
        """Return when the kernel has handed everything over."""
        write_back(self.folder)
