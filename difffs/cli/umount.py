"""``difffs umount MOUNTPOINT``."""

import argparse
import sys

from difffs.cli.arguments import filled
from difffs.cli.configured import add_configured, configured
from difffs.configuration.keys import Entry
from difffs.errors import MountProblem
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at, mountpoints_of
from difffs.mount.unmount import unmount, wait_until_released


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] MOUNTPOINT | [options] --configured NAME"
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?", type=filled)
    add_configured(parser, "mount")
    parser.add_argument("--force", action="store_true", help="give up what cannot be written")
    parser.add_argument(
        "--lazy",
        action="store_true",
        help="free the mount point at once; what is in use goes on, and nothing is waited for",
    )


def run(arguments: argparse.Namespace) -> int:
    """Commit, unmount, and return when the store is closed."""
    entry = configured(arguments, "mount", ["mountpoint"])
    mountpoint = arguments.mountpoint
    if entry is not None:
        mountpoint = str(entry.values["mountpoint"])
        if _is_unmounted(entry):
            wait_until_released(entry.store)
            return 0
    for warning in unmount(mountpoint, force=arguments.force, lazy=arguments.lazy):
        print(f"difffs: {warning}", file=sys.stderr)
    return 0


def _is_unmounted(entry: Entry) -> bool:
    """Whether umount(8) was faster, as when the machine shuts down: the daemon may be writing yet.

    ``MountProblem`` when the store is mounted elsewhere.
    """
    where = str(entry.values["mountpoint"])
    mount = mount_at(where)
    if mount is not None and mount.kind == FILE_SYSTEM_TYPE:
        return False
    elsewhere = mountpoints_of(entry.store)
    if elsewhere:
        raise MountProblem(
            f"{entry.store} is mounted on {elsewhere[0]}, not on {where}: difffs umount "
            f"{elsewhere[0]}"
        )
    return True
