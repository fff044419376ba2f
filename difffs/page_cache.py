"""How much of a file the kernel's page cache holds."""

import ctypes
import errno
import mmap
import os
import stat
from pathlib import Path

_CACHESTAT = 451
"""The system call's number on every architecture (Linux 6.5)."""


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Cachestat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.syscall.restype = ctypes.c_long


def cached_bytes_of(path: Path) -> int:
    """Cached bytes of one file; 0 for a file that is not there."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        cached = _cachestat(file)
        return _mincore(file) if cached is None else cached
    finally:
        os.close(file)


def resident_bytes_of(path: Path) -> int | None:
    """The same for a file that others may have mapped and written; None where it may not be asked.

    To who may not write a file, nor owns it, mincore(2) says that all is resident.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return None
        cached = _cachestat(file)
        if cached is not None:
            return cached
        if os.geteuid() not in (0, status.st_uid) and not os.access(path, os.W_OK):
            return None
        # What is dirty yet does not count as data to who looks for holes.
        return _resident(file, 0, status.st_size) if status.st_size else 0
    finally:
        os.close(file)


def _cachestat(file: int) -> int | None:
    """None where the kernel or the file system does not have the call."""
    everything = _Range(0, 0)
    result = _Cachestat()
    if _libc.syscall(
        ctypes.c_long(_CACHESTAT),
        ctypes.c_uint(file),
        ctypes.byref(everything),
        ctypes.byref(result),
        ctypes.c_uint(0),
    ):
        if ctypes.get_errno() in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return None
        return 0
    return int(result.cached) * mmap.PAGESIZE


def _mincore(file: int) -> int:
    """Asks for the file's data ranges only: a payload file is sparse."""
    total = 0
    at, end = 0, os.fstat(file).st_size
    while at < end:
        try:
            start = os.lseek(file, at, os.SEEK_DATA) & ~(mmap.PAGESIZE - 1)
        except OSError:
            break
        at = os.lseek(file, max(start, at), os.SEEK_HOLE)
        total += _resident(file, start, at - start)
    return total


def _resident(file: int, start: int, length: int) -> int:
    # Never written: ctypes takes the address of writable memory only.
    with mmap.mmap(file, length, flags=mmap.MAP_PRIVATE, offset=start) as view:
        vector = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        address = ctypes.c_char.from_buffer(view)
        failed = _libc.mincore(ctypes.addressof(address), length, vector)
        del address
    return 0 if failed else sum(byte & 1 for byte in vector.raw) * mmap.PAGESIZE
