"""Files in memory, by plain mfusepy: the file system of the findings about FUSE.

``python memory_filesystem.py MOUNTPOINT [writeback]`` serves until unmounted, and prints the name
of every callback on stderr. With ``writeback``, the kernel keeps written pages for a while. It
answers what every tutorial's file system answers; of a file's attributes that is type, mode, links
and size.
"""

import errno
import os
import stat
import sys
from typing import Any

import mfusepy

WRITEBACK_CACHE = 1 << 16  # FUSE_CAP_WRITEBACK_CACHE


class Memory:
    """One directory of files that are bytearrays."""

    use_ns = True

    def __init__(self, writeback: bool) -> None:
        self._writeback = writeback
        self._files: dict[str, bytearray] = {}

    def _note(self, call: str, path: str) -> None:
        print(call, path, file=sys.stderr, flush=True)

    def init_with_config(self, connection: Any, config: Any) -> None:
        if self._writeback:
            connection.want |= WRITEBACK_CACHE

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path not in self._files:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        size = len(self._files[path])
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": size}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *(name[1:] for name in self._files)]

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._note("create", path)
        self._files[path] = bytearray()
        return 1

    def open(self, path: str, flags: int) -> int:
        self._note("open", path)
        return 1

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._note("read", path)
        return bytes(self._files[path][offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._note("write", path)
        file = self._files[path]
        file.extend(bytes(max(0, offset + len(data) - len(file))))
        file[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        file = self._files[path]
        del file[length:]
        file.extend(bytes(length - len(file)))

    def unlink(self, path: str) -> None:
        self._note("unlink", path)
        del self._files[path]

    def utimens(self, path: str, times: Any = None, fh: int | None = None) -> None:
        self._note("utimens", path)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._note("fsync", path)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._note("fsyncdir", path)


memory = Memory("writeback" in sys.argv[2:])
mfusepy.FUSE(memory, sys.argv[1], foreground=True, nothreads=True, fsname="memory")
