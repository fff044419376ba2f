"""``difffs umount MOUNTPOINT``."""

import argparse
import sys

from difffs.cli.arguments import filled
from difffs.mount.unmount import unmount


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=filled)
    parser.add_argument("--force", action="store_true", help="give up what cannot be written")


def run(arguments: argparse.Namespace) -> int:
    """Commit, unmount, and return when the store is closed."""
    for warning in unmount(arguments.mountpoint, force=arguments.force):
        print(f"difffs: {warning}", file=sys.stderr)
    return 0
