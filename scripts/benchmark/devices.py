"""The block devices that are compared: a loop device over difffs, zram, nbdkit's zstd memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from benchmark import mounts
from benchmark.host import occupied, own_memory
from benchmark.work import BenchmarkError, run_tool

_CONTROL = Path("/sys/class/zram-control")


class Device(Protocol):
    """A block device of a fixed size, empty at first."""

    path: str

    def settle(self) -> None:
        """Return when nothing of earlier work is left to be done."""

    def memory(self) -> int:
        """Return the bytes of memory that keeping the data takes, everything counted."""


def loop_obstacle() -> str | None:
    """Say why there can be no loop device over a mount, or None."""
    if reason := mounts.obstacle():
        return reason
    if os.geteuid() != 0:
        return "loop devices need root"
    if shutil.which("losetup") is None:
        return "no losetup (install the package mount)"
    return None


def zram_obstacle() -> str | None:
    """Say why there can be no zram device, or None."""
    if os.geteuid() != 0:
        return "zram needs root"
    if not _CONTROL.exists():
        subprocess.run(["modprobe", "zram"], check=False, capture_output=True)
    return None if _CONTROL.exists() else "this kernel has no zram (modprobe zram)"


def nbdkit_obstacle() -> str | None:
    """Say why nbdkit's memory plugin cannot be used through QEMU, or None."""
    for tool, package in (("nbdkit", "nbdkit"), ("qemu-storage-daemon", "qemu-utils")):
        if shutil.which(tool) is None:
            return f"no {tool} (install the package {package})"
    done = subprocess.run(
        ["nbdkit", "memory", "--dump-plugin"], check=False, capture_output=True, text=True
    )
    return None if "zstd=yes" in done.stdout else "this nbdkit has no allocator=zstd"


class _Loop:
    """A loop device over a file, with direct I/O."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.path = ""

    def __enter__(self) -> _Loop:
        self.path = run_tool(
            "losetup", "--find", "--show", "--direct-io=on", "--sector-size=4096", self._file
        ).strip()
        return self

    def __exit__(self, *_: object) -> None:
        run_tool("losetup", "--detach", self.path)


class DifffsLoop:
    """A loop device over a volume of a new store."""

    def __init__(self, folder: Path, size: int) -> None:
        self._mount = mounts.Difffs(folder / "loop", folder / "loop-store")
        self._size = size
        self._stack = ExitStack()
        self.path = ""

    def __enter__(self) -> DifffsLoop:
        with ExitStack() as stack:
            stack.enter_context(self._mount)
            volume = self._mount.folder / "volume"
            with volume.open("wb") as file:
                file.truncate(self._size)
            self.path = stack.enter_context(_Loop(volume)).path
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def settle(self) -> None:
        """Return when everything written is committed."""
        run_tool("blockdev", "--flushbufs", self.path)
        self._mount.settle()

    def memory(self) -> int:
        """The daemon, its buffer and libraries included, and the store on tmpfs."""
        return own_memory(self._mount.process.pid, self._mount.store) + occupied(self._mount.store)


class Zram:
    """A zram device of its own, with lzo-rle."""

    def __init__(self, size: int, algorithm: str = "lzo-rle") -> None:
        self._size = size
        self._algorithm = algorithm
        self._number = -1
        self.path = ""

    @property
    def _folder(self) -> Path:
        return Path(f"/sys/block/zram{self._number}")

    def __enter__(self) -> Zram:
        self._number = int((_CONTROL / "hot_add").read_text())
        self.path = f"/dev/zram{self._number}"
        try:
            (self._folder / "comp_algorithm").write_text(self._algorithm)
            (self._folder / "disksize").write_text(str(self._size))
            deadline = time.monotonic() + 5
            while not Path(self.path).exists() and time.monotonic() < deadline:
                time.sleep(0.01)  # udev makes the node
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        (_CONTROL / "hot_remove").write_text(str(self._number))

    def settle(self) -> None:
        """There is never anything left."""

    def memory(self) -> int:
        """What the kernel says that the device takes."""
        return int((self._folder / "mm_stat").read_text().split()[2])


class NbdkitZstd:
    """nbdkit's memory plugin with zstd; QEMU's NBD client exports it as a file for a loop device.

    Like difffs it is a process that answers the kernel through FUSE, with one hop more.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._stack = ExitStack()
        self._server: subprocess.Popen[bytes]
        self.path = ""

    def __enter__(self) -> NbdkitZstd:
        socket, file = self._folder / "nbd.socket", self._folder / "nbd.raw"
        client = [
            "qemu-storage-daemon",
            "--blockdev", f"nbd,node-name=memory,server.type=unix,server.path={socket}",
            "--export", f"fuse,id=file,node-name=memory,mountpoint={file},writable=on",
        ]  # fmt: skip
        server = ["nbdkit", "--foreground", "--unix", str(socket)]
        with ExitStack() as stack:
            self._server = self._start(
                stack, [*server, "memory", f"size={self._size}", "allocator=zstd"]
            )
            self._await(socket.exists)
            file.touch()
            stack.callback(file.unlink)
            self._start(stack, client)
            self._await(lambda: file.stat().st_size == self._size)
            self.path = stack.enter_context(_Loop(file)).path
            self._stack = stack.pop_all()
        return self

    @staticmethod
    def _start(stack: ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        return process

    @staticmethod
    def _await(ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not ready():
            if time.monotonic() > deadline:
                raise BenchmarkError("nbdkit or its QEMU client does not come up")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def settle(self) -> None:
        """Return when the loop device has handed everything over."""
        run_tool("blockdev", "--flushbufs", self.path)

    def memory(self) -> int:
        """The server alone; the client would not count in earnest either."""
        return own_memory(self._server.pid)
