"""Where programs run: on this system, or in a Debian root of their own.

A program's working folder is the same folder in both cases, so the paths that it is given are
relative to it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from formats.plan import Version, version_of

WORK = "mnt"
"""Where the working folder is seen in a root."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LET_GO = "umount --all --lazy --no-canonicalize --types fuse.difffs 2>/dev/null || true; "
"""Shell of a new mount namespace: what others have mounted is not held by it, or they could not
unmount it as long as it lasts."""
# Mounts of a namespace of its own: whatever ends, nothing stays mounted.
_ENTER = (
    f"{LET_GO}"
    'set -e; root=$1 folder=$2; shift 2; mount -t proc proc "$root/proc"; '
    f'mount --bind "$folder" "$root/{WORK}"; '
    'mount --bind /dev "$root/dev"; mount -t sysfs -o ro sys "$root/sys"; '
    'mount -t tmpfs run "$root/run"; mount -t tmpfs tmp "$root/tmp"; '
    f'exec chroot "$root" /usr/bin/env -i -C /{WORK} PATH={PATH} HOME=/root LC_ALL=C.UTF-8 "$@"'
)


@dataclass(frozen=True, slots=True)
class Place:
    """This system, or with ``root`` a Debian system in a folder."""

    root: Path | None = None

    def command(self, folder: Path, words: Sequence[str]) -> list[str]:
        """Return the command that runs ``words`` with ``folder`` as working folder.

        In a root it is the first process of a namespace of processes: all that it started ends
        with it.
        """
        if self.root is None:
            return ["env", "-C", str(folder), *words]
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
            *("sh", "-c", _ENTER, "sh", str(self.root), str(folder), *words),
        ]

    def alone(self, folder: Path, words: Sequence[str]) -> list[str]:
        """Return the command that runs ``words`` with mounts and processes of their own.

        What they mount is seen by nobody else, and what they started ends with them.
        """
        if self.root is not None:
            return self.command(folder, words)
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*own, *self.command(folder, words)]

    def seen(self, folder: Path) -> Path:
        """Return the path that programs have a working folder under."""
        return folder if self.root is None else Path("/", WORK)

    def has(self, program: str) -> bool:
        """Whether a program is installed."""
        root = self.root or Path("/")
        folders = ":".join(str(root / one.lstrip("/")) for one in PATH.split(":"))
        return shutil.which(program, path=folders) is not None

    def said(self, folder: Path, *words: str) -> str:
        """Return what a program prints; CalledProcessError when it fails."""
        done = subprocess.run(
            self.command(folder, words),
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def qemu_version(self, folder: Path) -> tuple[str, Version]:
        """Return the whole version of QEMU, and its two first numbers."""
        line = self.said(folder, "qemu-system-x86_64", "--version").splitlines()[0]
        return line.removeprefix("QEMU emulator version "), version_of(line)
