"""Files of mounts that processes have mapped: guest RAM, as a rule."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from difffs.mount.live import FILE_SYSTEM_TYPE
from difffs.mount.table import Mount, lines_of, mounts


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A mapped file of a mount of difffs."""

    path: str
    mountpoint: str
    mapped: int
    """Bytes from the first mapped one to the last, in whatever process."""


def memory_files(processes: Iterable[int]) -> list[MemoryFile]:
    """Return the files of mounts that any of these processes maps, each once.

    Processes that are gone by now, or that may not be looked at, are left out.
    """
    devices = {mount.device: mount for mount in mounts() if mount.kind == FILE_SYSTEM_TYPE}
    found: dict[tuple[int, int], tuple[str, Mount, int, int]] = {}
    if not devices:
        return []
    for process in processes:
        with suppress(OSError):
            for line in lines_of(Path(f"/proc/{process}/maps").read_bytes()):
                _add(line, devices, found)
    return [
        MemoryFile(path, mount.mountpoint, last - first)
        for path, mount, first, last in found.values()
    ]


def _add(
    line: bytes,
    devices: dict[int, Mount],
    found: dict[tuple[int, int], tuple[str, Mount, int, int]],
) -> None:
    """Add a line of a process's maps: range, permissions, offset, device, inode, path."""
    fields = line.split(None, 5)
    if len(fields) < 6:
        return
    major, _, minor = fields[3].partition(b":")
    device = os.makedev(int(major, 16), int(minor, 16))
    if device not in devices:
        return
    start, _, end = fields[0].partition(b"-")
    first = int(fields[2], 16)
    last = first + int(end, 16) - int(start, 16)
    # A newline is the only character that the kernel replaces here.
    path = os.fsdecode(fields[5].replace(b"\\012", b"\n"))
    key = device, int(fields[4])
    if key in found:
        path, _, earlier_first, earlier_last = found[key]
        first, last = min(first, earlier_first), max(last, earlier_last)
    found[key] = path, devices[device], first, last
