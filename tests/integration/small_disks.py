"""File systems of their own that are soon full: tmpfs, ext4 and btrfs on a loop device."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration import harness

MIB = 1 << 20
# Image in MiB (btrfs takes no less than 109), and what makes a file system of it.
KINDS = {
    "tmpfs": (48, []),
    "ext4": (64, ["mkfs.ext4", "-q", "-F"]),
    "btrfs": (256, ["mkfs.btrfs", "-q"]),
}


@dataclass(frozen=True)
class Disk:
    """A small file system, and room beside it."""

    path: Path
    mebibytes: int
    """Of the whole disk."""
    room: int
    """What of it users may fill, in MiB."""
    beside: Path
    """For mount points and images: what lies here takes none of its room."""


class NotHere(Exception):
    """Such a file system cannot be made here; the text says why."""


def obstacle(kind: str) -> str | None:
    """Say why such a file system cannot be made here, or None."""
    _, make = KINDS[kind]
    reason = harness.obstacle()
    if reason is None and os.geteuid() != 0:
        reason = "only root mounts file systems"
    if reason is None and make and shutil.which(make[0]) is None:
        reason = f"no {make[0]}"
    return reason


@contextlib.contextmanager
def small_disk(kind: str, mebibytes: int | None = None) -> Iterator[Disk]:
    """Make an empty one, of another size if given; ``NotHere`` where that is not possible."""
    usual, make = KINDS[kind]
    mebibytes = mebibytes or usual
    reason = obstacle(kind)
    if reason is not None:
        raise NotHere(reason)
    with harness.folder_in_memory() as folder:
        path = folder / "disk"
        path.mkdir()
        if make:
            image = folder / "image"
            with image.open("wb") as file:
                file.truncate(mebibytes * MIB)
            subprocess.run([*make, str(image)], check=True, capture_output=True)
            options = ["-t", kind, "-o", "loop", str(image)]
        else:
            options = ["-t", "tmpfs", "-o", f"noswap,size={mebibytes}m", "difffs-test"]
        done = subprocess.run(["mount", *options, str(path)], capture_output=True, text=True)
        if done.returncode != 0:
            raise NotHere(f"{kind} cannot be mounted here: {done.stderr.strip()}")
        try:
            found = os.statvfs(path)
            yield Disk(path, mebibytes, found.f_bavail * found.f_frsize // MIB, folder)
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
