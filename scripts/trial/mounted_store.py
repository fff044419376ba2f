"""A new store, mounted by its commands, that is unmounted, checked and mounted again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Self

from difffs.mount.live import mount_at
from trial.command import CommandFailed, difffs


class MountedStore:
    """The store in ``folder/store``, mounted on ``folder/mount``, until the context is left."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.mountpoint = folder / "mount"

    def __enter__(self) -> Self:
        self.mountpoint.mkdir()
        self.mount()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if mount_at(self.mountpoint) is None:
            return
        try:
            self.unmount()
        except (CommandFailed, subprocess.SubprocessError):
            subprocess.run(["umount", "--lazy", self.mountpoint], check=False, capture_output=True)
            if kind is None:
                raise

    def mount(self) -> None:
        """Mount it. ``CommandFailed``."""
        difffs("mount", self.store, self.mountpoint)

    def unmount(self) -> None:
        """Write and commit everything, and unmount. ``CommandFailed``."""
        difffs("umount", self.mountpoint, seconds=180)

    def check(self) -> None:
        """Verify every invariant and payload of the store, which is not mounted. ``CommandFailed``
        with what was found."""
        difffs("check", self.store, seconds=300)

    def statistics(self) -> dict[str, Any]:
        """Return what ``difffs stats --json`` tells, mounted or not."""
        place = self.store if mount_at(self.mountpoint) is None else self.mountpoint
        found: dict[str, Any] = json.loads(difffs("stats", "--json", place))
        return found
