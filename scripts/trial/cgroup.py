"""A memory cgroup, version 2 or 1, for one process that shall be short of memory."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def hierarchy() -> tuple[int, Path] | None:
    """Return the cgroup version and the folder that can hold a new memory cgroup, or None."""
    if (_ROOT / "cgroup.controllers").exists():
        if "memory" in (_ROOT / "cgroup.controllers").read_text().split():
            return 2, _ROOT
        return None
    if (_ROOT / "memory" / "memory.limit_in_bytes").exists():
        return 1, _ROOT / "memory"
    return None


def obstacle() -> str | None:
    """Say why no memory cgroup can be made here, or None."""
    if os.geteuid() != 0:
        return "making a memory cgroup needs root"
    found = hierarchy()
    if found is None:
        return "no memory controller below /sys/fs/cgroup (is it mounted?)"
    if not os.access(found[1], os.W_OK):
        return f"{found[1]} is mounted read-only (in a container: give it the host's cgroups)"
    return None


class MemoryCgroup:
    """A new cgroup with a limit in bytes on resident memory; removed when the context is left."""

    def __init__(self, name: str, limit: int) -> None:
        found = hierarchy()
        assert found is not None, "ask obstacle() first"
        self._version, parent = found
        self.folder = parent / name
        self._limit = limit

    def __enter__(self) -> MemoryCgroup:
        if self._version == 2:
            control = self.folder.parent / "cgroup.subtree_control"
            if "memory" not in control.read_text().split():
                control.write_text("+memory")
        self.folder.mkdir()
        limit = "memory.max" if self._version == 2 else "memory.limit_in_bytes"
        (self.folder / limit).write_text(str(self._limit))
        return self

    def __exit__(self, *_: object) -> None:
        for _attempt in range(50):  # processes that have just ended are charged a moment longer
            with contextlib.suppress(FileNotFoundError):
                try:
                    self.folder.rmdir()
                except OSError:
                    time.sleep(0.1)
                    continue
            return

    def enter(self) -> None:
        """Move the calling process in; for ``preexec_fn``."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))
