"""``difffs swapoff STORE``."""

import argparse

from difffs.cli.arguments import filled_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)


def run(arguments: argparse.Namespace) -> int:
    """Stop swapping to the store."""
    from difffs import swap

    swap.swap_off(arguments.store)
    return 0
