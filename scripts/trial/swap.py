"""Swap on a file of a difffs mount, through a loop device."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def obstacle() -> str | None:
    """Say why this host or user cannot swap to a loop device, or None."""
    if os.geteuid() != 0:
        return "swapon needs root"
    for tool in ("losetup", "mkswap", "swapon"):
        if shutil.which(tool) is None:
            return f"no {tool} (install the packages util-linux and mount)"
    if not Path("/proc/swaps").exists():
        return "this kernel has no swap"
    if not Path("/dev/loop-control").exists():
        subprocess.run(["modprobe", "loop"], check=False, capture_output=True)
    if not Path("/dev/loop-control").exists():
        return "no /dev/loop-control (modprobe loop; in a container: pass /dev/loop* in)"
    return None


def used_of(device: str) -> int:
    """Return the bytes that are swapped out to a device now."""
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        name, _, _, used, _ = line.split()
        if name == device:
            return int(used) * 1024
    return 0


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


class LoopSwap:
    """Makes a file of that many bytes and swaps to it until the context is left."""

    def __init__(self, file: Path, size: int) -> None:
        self.file = file
        self._size = size
        self.device = ""
        self._on = False

    def __enter__(self) -> LoopSwap:
        with self.file.open("wb") as stream:
            stream.truncate(self._size)
        try:
            self.device = _run("losetup", "--find", "--show", "--direct-io=on", str(self.file))
            _run("mkswap", self.device)
            # the highest priority, so that no other swap of the host is used before this one
            _run("swapon", "--discard", "--priority", "32767", self.device)
            self._on = True
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            _run("swapoff", self.device)
            self._on = False
        if self.device:
            _run("losetup", "--detach", self.device)
            self.device = ""

    def others(self) -> list[str]:
        """The host's other swap areas, which may have taken pages instead."""
        lines = Path("/proc/swaps").read_text().splitlines()[1:]
        return [name for name in (line.split()[0] for line in lines) if name != self.device]

    def used(self) -> int:
        """Bytes swapped out to the device now."""
        return used_of(self.device)
