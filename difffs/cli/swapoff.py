"""``difffs swapoff STORE``."""

import argparse
from contextlib import suppress

from difffs.cli.arguments import filled_path
from difffs.cli.configured import add_configured, configured
from difffs.errors import VolumeNotFound


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] STORE | [options] --configured NAME"
    parser.add_argument("store", metavar="STORE", nargs="?", type=filled_path)
    add_configured(parser, "swap")


def run(arguments: argparse.Namespace) -> int:
    """Stop swapping to the store."""
    from difffs import swap

    entry = configured(arguments, "swap", ["store"])
    if entry is None:
        swap.swap_off(arguments.store)
    else:
        with suppress(VolumeNotFound):  # a service manager asks for a state, which this is
            swap.swap_off(entry.store)
    return 0
