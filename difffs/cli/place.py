"""What a user means who names a store or a mount point."""

import os

from difffs.errors import NotAStore
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_containing, mountpoints_of


def mountpoint_for(where: str) -> str | None:
    """Return where that store is mounted, or the mount point that was named; None when neither.

    ``NotAStore`` when there is nothing.
    """
    mount = mount_containing(where)
    if mount is not None and mount.kind == FILE_SYSTEM_TYPE:
        return mount.mountpoint
    mountpoints = mountpoints_of(where)
    if mountpoints:
        return mountpoints[0]
    if not os.path.exists(where):
        raise NotAStore(f"{where} does not exist: name a store or the mount point of one")
    return None
