"""Opening a store for a command that only reads it."""

from pathlib import Path

from difffs.errors import StoreBusy
from difffs.mount.live import mountpoints_of
from difffs.store import Store


def open_to_read(path: Path, purpose: str, instead: str = "") -> Store:
    """Open the store read-only.

    When it is mounted, ``StoreBusy`` says where and how to go on: ``instead``, in which ``{}``
    stands for the mount point, or unmounting it first in order to ``purpose``.
    """
    try:
        return Store.open(path, read_only=True)
    except StoreBusy:
        mountpoints = mountpoints_of(path)
        if not mountpoints:
            raise
        mountpoint = mountpoints[0]
        remedy = f"difffs umount {mountpoint} to {purpose}"
        if instead:
            remedy = f"{instead.format(mountpoint)}, or {remedy}"
        raise StoreBusy(f"{path} is mounted on {mountpoint}: {remedy}") from None
