"""Who holds a file system."""

from difffs.loop_device import loop_devices_on
from difffs.mount.table import mounts_everywhere


def holders_of(device: int) -> list[str]:
    """Say where the file system with this ``st_dev`` is mounted, in whatever mount namespace, and
    which loop devices lie on its files; as far as this process can look."""
    found = [
        f"mounted on {place.mount.mountpoint} by process {place.process} ({place.command})"
        for place in mounts_everywhere()
        if place.mount.device == device
    ]
    found += [
        f"under the loop device {loop.path} ({loop.file_name})" for loop in loop_devices_on(device)
    ]
    return found
