"""System calls that Python's standard library lacks.

Each raises ``OSError`` with the call's error number, and the path where there is one.
"""

import ctypes
import enum
import fcntl
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MS_RDONLY = 1 << 0
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_DIRSYNC = 1 << 7
MS_NOSYMFOLLOW = 1 << 8
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

_MNT_DETACH = 2
_CLONE_NEWNS = 0x00020000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_IO_FLUSHER = 57
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITY_HEAD = struct.Struct("=Ii")
_CAPABILITY_SETS = struct.Struct("=6I")
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_MCL_ONFAULT = 4
_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_NOCOW_FL = 0x00800000
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BASIC_STATS = 0x7FF
_STATX_INODE_AND_SIZE = struct.Struct("=32xQQ")
_STATX_DEVICE = struct.Struct("=136xII")
_STATX_BYTES = 256

_Path = str | os.PathLike[str]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]


def _check(result: int, path: _Path | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), None if path is None else os.fspath(path))


def mount(source: _Path, target: _Path, kind: str, flags: int, data: str = "") -> None:
    """Mount, or change a mount (``MS_REMOUNT``, with ``MS_BIND`` only its mount point's flags)."""
    _check(
        _libc.mount(
            os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data)
        ),
        target,
    )


def unmount(target: _Path, *, lazy: bool = False) -> None:
    """Unmount; with ``lazy`` the mount point is free at once and open files go on working."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH if lazy else 0), target)


def enter_mount_namespace(descriptor: int) -> None:
    """Enter the mount namespace behind an open ``/proc/PID/ns/mnt``. Needs a single thread."""
    _check(_libc.setns(descriptor, _CLONE_NEWNS))


def synchronize_file_system(descriptor: int) -> None:
    """Have the kernel send everything written in the file system of an open file."""
    _check(_libc.syncfs(descriptor))


def exchange(one: _Path, other: _Path) -> None:
    """Exchange the names of two files or directories, all at once (``RENAME_EXCHANGE``)."""
    _check(
        _libc.renameat2(
            _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
        ),
        one,
    )


def mappings_of(descriptor: int) -> list[tuple[int, int]]:
    """Where an open file is mapped in this process: (address, length) of each mapping.

    By its name, since on btrfs and overlayfs the kernel has another device for a mapping than fstat
    has for the file. Nothing without /proc, nor for a file that has been removed or renamed since.
    """
    try:
        name = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}")).replace(b"\n", b"\\012")
        table = Path("/proc/self/maps").read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for line in table.removesuffix(b"\n").split(b"\n"):
        reach, *_, path = line.split(maxsplit=5)
        if path == name:
            start, _, end = reach.partition(b"-")
            found.append((int(start, 16), int(end, 16) - int(start, 16)))
    return found


def punch_hole(descriptor: int, offset: int, length: int) -> None:
    """Give the blocks of a range back, whose bytes are zeros then; the file keeps its size."""
    _check(_libc.fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, length))


def write_in_place(descriptor: int) -> None:
    """Have a copy-on-write file system (btrfs) write an empty file's blocks where they are."""
    flags = bytearray(8)
    fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, flags)
    value = int.from_bytes(flags[:4], sys.byteorder) | _FS_NOCOW_FL
    fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, value.to_bytes(4, sys.byteorder))


def swap_off(device: _Path) -> None:
    """Stop swapping to a device. ENOMEM when what is on it does not fit in memory."""
    _check(_libc.swapoff(os.fsencode(device)), device)


def set_io_flusher() -> None:
    """Have this thread's allocations, and those of threads to come, not wait for write-back."""
    _check(_libc.prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0))


def set_no_new_privileges() -> None:
    """Have what this thread, and threads and processes of it, start never gain privileges."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


class Capability(enum.IntEnum):
    """What root may do, by Linux's numbers; those that difffs knows."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    IPC_LOCK = 14
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYS_RESOURCE = 24


class Capabilities(NamedTuple):
    """The capabilities of a thread, by their numbers."""

    effective: frozenset[int]
    permitted: frozenset[int]


def capabilities() -> Capabilities:
    """Return the calling thread's capabilities."""
    head = ctypes.create_string_buffer(_CAPABILITY_HEAD.pack(_CAPABILITY_VERSION_3, 0))
    sets = ctypes.create_string_buffer(_CAPABILITY_SETS.size)
    _check(_libc.capget(head, sets))
    low_effective, low, _, high_effective, high, _ = _CAPABILITY_SETS.unpack(sets.raw)
    return Capabilities(_numbers(low_effective, high_effective), _numbers(low, high))


def set_capabilities(*, effective: Iterable[int], permitted: Iterable[int]) -> None:
    """Set the calling thread's; none is inheritable then. EPERM when it is not permitted one."""
    low_effective, high_effective = _words(effective)
    low, high = _words(permitted)
    head = ctypes.create_string_buffer(_CAPABILITY_HEAD.pack(_CAPABILITY_VERSION_3, 0))
    sets = _CAPABILITY_SETS.pack(low_effective, low, 0, high_effective, high, 0)
    _check(_libc.capset(head, ctypes.create_string_buffer(sets, len(sets))))


def _numbers(low: int, high: int) -> frozenset[int]:
    bits = high << 32 | low
    return frozenset(number for number in range(64) if bits >> number & 1)


def _words(numbers: Iterable[int]) -> tuple[int, int]:
    bits = sum(1 << number for number in frozenset(numbers))
    return bits & 0xFFFFFFFF, bits >> 32


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def lock_memory() -> None:
    """Keep this process's memory resident: what is in use, and what will be once touched."""
    _check(_libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT))


def trim_allocator() -> None:
    """Give the system what the C library keeps of freed memory; nothing where it cannot (musl)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


class CachedStatus(NamedTuple):
    """What the kernel has of a file; ``device`` is (major, minor), ``size`` bytes."""

    device: tuple[int, int]
    inode: int
    size: int


def cached_status(path: _Path) -> CachedStatus:
    """Return a file's status as the kernel has it, without a request to its file system."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    _check(
        _libc.statx(_AT_FDCWD, os.fsencode(path), _AT_STATX_DONT_SYNC, _STATX_BASIC_STATS, buffer),
        path,
    )
    major, minor = _STATX_DEVICE.unpack_from(buffer)
    inode, size = _STATX_INODE_AND_SIZE.unpack_from(buffer)
    return CachedStatus((major, minor), inode, size)
