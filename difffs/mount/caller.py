"""Who sends a request, and what the kernel knows of that process's files but has not told yet."""

import contextlib
import os
from collections.abc import Callable

from difffs.linux import cached_status

_DESCRIPTORS = 64
"""How many of another process's descriptors are looked at."""


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
        wanted = b"ino:\t%d\n" % inode
        try:
            descriptors = sorted(os.listdir(folder), key=int, reverse=True)
        except OSError:
            return None
        for descriptor in descriptors[:most]:
            with contextlib.suppress(OSError):  # closed by now
                with open(f"{folder}info/{descriptor}", "rb") as stream:
                    if wanted not in stream.read():
                        continue
                device, found, size = cached_status(f"{folder}/{descriptor}")
                if found == inode and device == self._device:
                    return size
        return None
