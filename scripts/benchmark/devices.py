"""The block devices that are compared: a volume of difffs, zram, nbdkit's zstd memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
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
    """The device's node; empty where the kernel has none."""
    qemu_name: str
    """What QEMU's tools know it by."""

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
    """Say why nbdkit's memory plugin cannot be used, or None."""
    if shutil.which("nbdkit") is None:
        return "no nbdkit (install the package nbdkit)"
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
        self.qemu_name = str(self._mount.folder / "volume")

    def __enter__(self) -> DifffsLoop:
        with ExitStack() as stack:
            stack.enter_context(self._mount)
            volume = Path(self.qemu_name)
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
        self.path = self.qemu_name = ""

    @property
    def _folder(self) -> Path:
        return Path(f"/sys/block/zram{self._number}")

    def __enter__(self) -> Zram:
        self._number = int((_CONTROL / "hot_add").read_text())
        self.path = self.qemu_name = f"/dev/zram{self._number}"
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
    """nbdkit's memory plugin with zstd: over NBD only, as kernels seldom have nbd.

    (QEMU could export it as a file for a loop device; but its FUSE export, as of 7.2, mixes up the
    data of writes that are under way at the same time.)
    """

    path = ""

    def __init__(self, folder: Path, size: int) -> None:
        self._socket = folder / "nbd.socket"
        self._size = size
        self.qemu_name = f"nbd:unix:{self._socket}"
        self._server: subprocess.Popen[bytes]

    def __enter__(self) -> NbdkitZstd:
        command = ["nbdkit", "--foreground", "--unix", str(self._socket), "memory"]
        self._server = subprocess.Popen(
            [*command, f"size={self._size}", "allocator=zstd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._socket.exists():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError("nbdkit does not come up")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait(60)
        self._socket.unlink(missing_ok=True)

    def settle(self) -> None:
        """There is never anything left."""

    def memory(self) -> int:
        """All that the server holds."""
        return own_memory(self._server.pid)
