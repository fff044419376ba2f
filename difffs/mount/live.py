"""Asking a live mount for its statistics, and finding what is mounted where.

The statistics travel as an ioctl on the mount's root directory: no privilege, no socket and no
path inside the store is needed, and it works from other mount namespaces. (An extended attribute
would be simpler, but a file system that answers one of them is asked for another,
``security.capability``, before every write.)
"""

import errno
import fcntl
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difffs.mount.table import Mount, mounts
from difffs.usage import VolumeUsage

FILE_SYSTEM_TYPE = "fuse.difffs"

STATISTICS_BYTES = 12288
"""Room for the compressed statistics; an ioctl can carry at most 16383."""

# _IOR('d', 1, char[STATISTICS_BYTES])
STATISTICS_REQUEST = 2 << 30 | STATISTICS_BYTES << 16 | ord("d") << 8 | 1

USAGE = struct.Struct("<QQQd")
"""From which page table chunk on; in the reply where to go on (0: that was all), pages, zeros and
stored bytes."""

# _IOWR('d', 3, struct)
USAGE_REQUEST = 3 << 30 | USAGE.size << 16 | ord("d") << 8 | 3

REFINE = struct.Struct("<8sd")
"""A tier's name, empty to end what runs, and for how many seconds; 0: until everything is done."""

# _IOW('d', 4, struct)
REFINE_REQUEST = 1 << 30 | REFINE.size << 16 | ord("d") << 8 | 4

# _IO('d', 2)
LOCK_MEMORY_REQUEST = ord("d") << 8 | 2


def pack_statistics(statistics: dict[str, Any]) -> bytes:
    """Return the ioctl's reply: four bytes of length and the compressed JSON text.

    Where that is too long, the smallest domains are left out, and their number is told.
    """
    text = _compressed(statistics)
    domains = statistics.get("domains", [])
    by_size = sorted(domains, key=lambda each: -each["bytes"]["stored"])
    kept = len(domains)
    while len(text) + 4 > STATISTICS_BYTES and kept > 1:
        kept = min(kept - 1, kept * 7 // 8)
        numbers = {each["domain"] for each in by_size[:kept]}
        told = [each for each in domains if each["domain"] in numbers]
        left_out = {"domains": told, "domains_left_out": len(domains) - kept}
        text = _compressed({**statistics, **left_out})
    if len(text) + 4 > STATISTICS_BYTES:
        raise OSError(errno.EOVERFLOW, "the statistics are too long for an ioctl")
    return len(text).to_bytes(4, "little") + text


def _compressed(statistics: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(statistics, separators=(",", ":")).encode())


def unpack_statistics(reply: bytes | bytearray) -> dict[str, Any]:
    """Return what :func:`pack_statistics` was given."""
    length = int.from_bytes(reply[:4], "little")
    statistics: dict[str, Any] = json.loads(zlib.decompress(reply[4 : 4 + length]))
    return statistics


def read_statistics(mountpoint: str | os.PathLike[str]) -> dict[str, Any]:
    """Ask the mount at ``mountpoint`` for its statistics. ``OSError`` when it is none of ours."""
    reply = bytearray(STATISTICS_BYTES)
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(directory, STATISTICS_REQUEST, reply)
    finally:
        os.close(directory)
    return unpack_statistics(reply)


def read_usage(file: int) -> VolumeUsage:
    """Ask the mount what an open volume takes. ``OSError`` when it is no volume of a mount."""
    usage, chunk = VolumeUsage(), 0
    while True:
        reply = bytearray(USAGE.pack(chunk, 0, 0, 0.0))
        fcntl.ioctl(file, USAGE_REQUEST, reply)
        chunk, *piece = USAGE.unpack(reply)
        usage += VolumeUsage(*piece)
        if not chunk:
            return usage


def lock_memory(mountpoint: str | os.PathLike[str]) -> None:
    """Have the daemon behind a mount make itself fit to carry swap. Only root may ask."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(directory, LOCK_MEMORY_REQUEST)
    finally:
        os.close(directory)


def start_refining(mountpoint: str | os.PathLike[str], tier: str, seconds: float | None) -> None:
    """Have the mount begin to refine; its statistics tell how far that is. ``OSError`` EPERM for
    others than root and who mounted it, EROFS for a mount that is read-only."""
    _ask_to_refine(mountpoint, REFINE.pack(tier.encode(), seconds or 0.0))


def stop_refining(mountpoint: str | os.PathLike[str]) -> None:
    """Have the mount end that soon."""
    _ask_to_refine(mountpoint, REFINE.pack(b"", 0.0))


def _ask_to_refine(mountpoint: str | os.PathLike[str], request: bytes) -> None:
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(directory, REFINE_REQUEST, request)
    finally:
        os.close(directory)


def mount_at(path: str | os.PathLike[str]) -> Mount | None:
    """Return the uppermost mount on exactly this path, of whatever kind."""
    parent, name = os.path.split(os.path.abspath(path))
    table = list(mounts())
    # The mount point itself is looked at only when it must be: a mount whose daemon hangs would
    # make the caller hang as well, and one that is looked at cannot be unmounted meanwhile.
    resolutions: tuple[Callable[[], str], ...] = (
        lambda: os.path.join(os.path.realpath(parent), name),
        lambda: os.path.realpath(path),
    )
    for resolve in resolutions:
        wanted = resolve()
        found = [mount for mount in table if mount.mountpoint == wanted]
        if found:
            return found[-1]
    return None


def mount_containing(path: str | os.PathLike[str]) -> Mount | None:
    """Return the mount that ``path`` lies in, of whatever kind."""
    exact = mount_at(path)
    if exact is not None:
        return exact
    resolved = Path(path).resolve()
    found = None
    for mount in mounts():
        if resolved.is_relative_to(mount.mountpoint) and (
            found is None or len(mount.mountpoint) >= len(found.mountpoint)
        ):
            found = mount
    return found


def mountpoints_of(store: str | os.PathLike[str]) -> list[str]:
    """Return where this store is mounted, as far as this process sees."""
    source = os.path.realpath(store)
    return [
        mount.mountpoint
        for mount in mounts()
        if mount.kind == FILE_SYSTEM_TYPE and mount.source == source
    ]
