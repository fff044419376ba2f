"""The last resort against a FUSE mount that does not answer: the kernel's abort switch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path


class Connection:
    """The kernel's side of a mount, noted while the mount still answers."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = mountpoint
        self._number = os.minor(mountpoint.stat().st_dev)

    def abort(self) -> None:
        """Let every pending request fail with an I/O error, which wakes all who wait for one.

        Needs root; without, the mount is only taken out of the tree.
        """
        subprocess.run(
            ["fusermount3", "-u", "-z", str(self._mountpoint)], check=False, capture_output=True
        )
        if os.geteuid() != 0:
            return
        switch = Path("/sys/fs/fuse/connections") / str(self._number) / "abort"
        if switch.exists():
            with contextlib.suppress(OSError):
                switch.write_text("1")
            return
        with tempfile.TemporaryDirectory() as folder:
            control = ["mount", "-t", "fusectl", "none", folder]
            if subprocess.run(control, check=False, capture_output=True).returncode == 0:
                with contextlib.suppress(OSError):
                    (Path(folder) / str(self._number) / "abort").write_text("1")
                subprocess.run(["umount", folder], check=False, capture_output=True)
