"""Who sends a request, and what the kernel knows of that process's files but has not told yet."""

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable

_AT_FDCWD = -100
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BASIC_STATS = 0x7FF
_STATX_INODE_AND_SIZE = struct.Struct("=32xQQ")
_STATX_DEVICE = struct.Struct("=136xII")
_STATX_BYTES = 256

_DESCRIPTORS = 64
"""How many of another process's descriptors are looked at."""

_libc = ctypes.CDLL(None)


class Caller:
    """The process behind the request that is being answered."""

    def __init__(self, context: Callable[[], tuple[int, int, int]]) -> None:
        """``context`` returns (uid, gid, process id) of the current request."""
        self._context = context
        self._device: tuple[int, int] | None = None

    def set_device(self, device: int) -> None:
        """Say which ``st_dev`` the mount has."""
        self._device = os.major(device), os.minor(device)

    def identity(self) -> tuple[int, int]:
        """Return (uid, gid)."""
        uid, gid, _ = self._context()
        return uid, gid

    def process(self) -> int:
        """Return the calling process's number; 0 when it is not of this process namespace."""
        return self._context()[2]

    def cached_size(self, inode: int, process: int | None = None) -> int | None:
        """Return the size that the kernel takes a file to have which the caller has open, or
        another ``process`` that opened it.

        When a file grows by a write, the kernel knows at once and tells later. It is asked
        through the caller's own descriptor, and told to answer from what it has: a request here
        would never be answered, as the only thread that could do so is waiting.
        Of another process only the highest descriptors are looked at, which were most often opened
        last. None when the process cannot be looked at (another process namespace, an old kernel),
        or does not have the file open any more.
        """
        most = None if process is None else _DESCRIPTORS
        process = self.process() if process is None else process
        folder = f"/proc/{process}/fd"
        wanted = f"ino:\t{inode}\n"
        try:
            descriptors = sorted(os.listdir(folder), key=int, reverse=True)
        except OSError:
            return None
        for descriptor in descriptors[:most]:
            with contextlib.suppress(OSError):  # closed by now
                with open(f"{folder}info/{descriptor}", encoding="ascii") as stream:
                    if wanted not in stream.read():
                        continue
                device, found, size = _statx(f"{folder}/{descriptor}")
                if found == inode and device == self._device:
                    return size
        return None


def _statx(path: str) -> tuple[tuple[int, int], int, int]:
    """Return (device, inode, size) as the kernel has them, without a request."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_STATX_DONT_SYNC
    if _libc.statx(_AT_FDCWD, path.encode(), flags, _STATX_BASIC_STATS, buffer) != 0:
        return (0, 0), 0, 0
    major, minor = _STATX_DEVICE.unpack_from(buffer)
    inode, size = _STATX_INODE_AND_SIZE.unpack_from(buffer)
    return (major, minor), inode, size
