"""The least that a file system in Python costs: mfusepy as it is, files in memory.

``python -m benchmark.null_filesystem MOUNTPOINT`` serves until unmounted. Same kernel settings and
connection options as a difffs mount, one thread, and nothing done with the bytes but keeping them.
What is slower through difffs than through this is difffs' own doing; the rest is FUSE, libfuse,
ctypes and Python.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

from difffs.mount import binding
from difffs.mount.kernel_tuning import KernelTuning
from difffs.mount.options import default_options


class NullFilesystem:
    """One flat directory of files that are bytearrays."""

    use_ns = True
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = mountpoint
        self._tuning = KernelTuning(default_options().read_ahead_bytes)
        self._numbers: dict[str, int] = {}
        self._files: list[bytearray] = []
        self._time = time.time_ns()

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Ask for the same connection as difffs does."""
        self._tuning.negotiate(connection, config)
        threading.Thread(target=self._tune, daemon=True).start()

    def _tune(self) -> None:
        self._tuning.apply_to_mount(os.stat(self._mountpoint).st_dev)

    def _number(self, path: str | None, fh: int | None = None) -> int:
        if fh is not None:
            return fh
        number = self._numbers.get(path or "")
        if number is None:
            raise OSError(errno.ENOENT, "no such file")
        return number

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        """Return the attributes as in ``struct stat``."""
        if path == "/":
            return self._attributes(stat.S_IFDIR | 0o755, 1, 0)
        number = self._number(path, fh)
        return self._attributes(stat.S_IFREG | 0o644, number + 2, len(self._files[number]))

    def _attributes(self, mode: int, inode: int, size: int) -> dict[str, int]:
        times = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), self._time)
        return {"st_mode": mode, "st_ino": inode, "st_nlink": 1, "st_size": size, **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        """Return the names."""
        return [".", "..", *(name[1:] for name in self._numbers)]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """Make a file; its handle is its number."""
        self._files.append(bytearray())
        self._numbers[path] = len(self._files) - 1
        return self._numbers[path]

    def open(self, path: str, flags: int) -> int:
        """Return the file's number as its handle."""
        return self._number(path)

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        """Return a copy of the bytes."""
        return bytes(memoryview(self._files[fh])[offset : offset + size])

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        """Keep the bytes."""
        file = self._files[fh]
        end = offset + len(data)
        if end > len(file):
            file.extend(bytes(end - len(file)))
        memoryview(file)[offset:end] = data
        return len(data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        """Set the size."""
        file = self._files[self._number(path, fh)]
        if length < len(file):
            del file[length:]
        else:
            file.extend(bytes(length - len(file)))

    def unlink(self, path: str) -> None:
        """Forget the name and the bytes."""
        self._files[self._numbers.pop(path)] = bytearray()

    def utimens(self, path: str | None, times: object = None, fh: int | None = None) -> None:
        """Times are not kept; the kernel tells them after writes to its cache."""

    def chmod(self, path: str, mode: int) -> None:
        """Modes are not kept."""

    def flush(self, path: str | None, fh: int) -> None:
        """Nothing is buffered here."""

    def release(self, path: str | None, fh: int) -> None:
        """Handles cost nothing."""

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        """Nothing is buffered here."""


def main(arguments: list[str]) -> int:
    """Serve until unmounted."""
    mountpoint = Path(arguments[0])
    assert binding.VERSION[0] == 3  # importing it has made mfusepy load libfuse3
    import mfusepy

    mfusepy.FUSE(
        NullFilesystem(mountpoint),
        str(mountpoint),
        foreground=True,
        nothreads=True,
        fsname="null",
        subtype="null",
        default_permissions=True,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
