"""A memory cgroup, version 2 or 1, for one process that shall be short of memory."""

from __future__ import annotations

import os
from pathlib import Path

from difffs.cgroup.finding import MemoryGroup
from difffs.cgroup.group import Group, make_group

_ROOT = Path("/sys/fs/cgroup")


def hierarchy() -> MemoryGroup | None:
    """Return the uppermost memory cgroup, or None."""
    if (_ROOT / "cgroup.controllers").exists():
        if "memory" in (_ROOT / "cgroup.controllers").read_text().split():
            return MemoryGroup(2, str(_ROOT), str(_ROOT))
        return None
    if (_ROOT / "memory" / "memory.limit_in_bytes").exists():
        return MemoryGroup(1, str(_ROOT / "memory"), str(_ROOT / "memory"))
    return None


def obstacle() -> str | None:
    """Say why no memory cgroup can be made here, or None."""
    if os.geteuid() != 0:
        return "making a memory cgroup needs root"
    found = hierarchy()
    if found is None:
        return "no memory controller below /sys/fs/cgroup (is it mounted?)"
    if not os.access(found.folder, os.W_OK):
        return f"{found.folder} is mounted read-only (in a container: give it the host's cgroups)"
    return None


class MemoryCgroup:
    """A new cgroup with a limit in bytes on resident memory; removed when the context is left.

    Unlike those of ``difffs run`` it kills where the limit cannot be kept.
    """

    def __init__(self, name: str, limit: int) -> None:
        found = hierarchy()
        assert found is not None, "ask obstacle() first"
        self._parent, self._name, self._limit = found, name, limit
        self.folder = Path(found.folder) / name

    def __enter__(self) -> MemoryCgroup:
        self._group: Group = make_group(self._parent, self._name)
        limit = "memory.max" if self._group.version == 2 else "memory.limit_in_bytes"
        (self.folder / limit).write_text(str(self._limit))
        return self

    def __exit__(self, *_: object) -> None:
        self._group.remove()

    def enter(self) -> None:
        """Move the calling process in; for ``preexec_fn``."""
        self._group.enter()
