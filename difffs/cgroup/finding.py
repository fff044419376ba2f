"""Which control group this process is in, and where the memory controller's groups are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from difffs.mount.table import Mount


class System(Protocol):
    """The files of a machine; a :class:`difffs.doctor.host.Host`, say."""

    @property
    def mounts(self) -> Sequence[Mount]:
        """All mounts, the uppermost of a mount point last."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def text(self, path: str) -> str:
        """What a small file says. ``OSError``."""

    def text_or_none(self, path: str) -> str | None:
        """The same, or None where there is no such file."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """This process's memory group."""

    version: int
    """Of control groups: 1 or 2."""
    hierarchy: str
    """Where the memory controller's groups are mounted."""
    folder: str
    """Of the group; the hierarchy's own where the group lies outside of what is mounted."""


def memory_group(system: System) -> MemoryGroup | None:
    """Find it; None where no hierarchy has the memory controller. ``OSError``."""
    own = {}
    for line in system.text("/proc/self/cgroup").split("\n"):
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    for mount in system.mounts:
        if mount.kind == "cgroup" and "memory" in mount.options:
            path = next((path for names, path in own.items() if "memory" in names.split(",")), "/")
            return MemoryGroup(1, mount.mountpoint, _folder(system, mount.mountpoint, path))
    for mount in system.mounts:
        if mount.kind == "cgroup2":
            folder = _folder(system, mount.mountpoint, own.get("", "/"))
            controllers = system.text_or_none(f"{folder}/cgroup.controllers") or ""
            at_top = system.text_or_none(f"{mount.mountpoint}/cgroup.controllers") or ""
            if "memory" in controllers.split() or "memory" in at_top.split():
                return MemoryGroup(2, mount.mountpoint, folder)
    return None


def _folder(system: System, hierarchy: str, path: str) -> str:
    folder = os.path.normpath(f"{hierarchy}/{path.lstrip('/')}")
    # In a control group namespace the own group may lie above all that is mounted.
    inside = Path(folder).is_relative_to(hierarchy) and system.exists(folder)
    return folder if inside else hierarchy
