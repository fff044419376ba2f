"""``difffs swapoff STORE``."""

import argparse

from difffs.cli.arguments import filled_path
from difffs.cli.configured import add_configured, configured


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] STORE | [options] --configured NAME"
    parser.add_argument("store", metavar="STORE", nargs="?", type=filled_path)
    add_configured(parser, "swap")


def run(arguments: argparse.Namespace) -> int:
    """Stop swapping to the store."""
    from difffs import swap

    entry = configured(arguments, "swap", ["store"])
    swap.swap_off(arguments.store if entry is None else entry.store)
    return 0
