"""``difffs upgrade STORE``."""

import argparse

from difffs.cli.arguments import filled_path
from difffs.cli.opening import upgrade
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.progress import Progress
from difffs.store.format import FORMAT_VERSION


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Give the store the current format, in which it can be written."""
    with Progress("upgrade", 0, unit="index entries") as progress:
        done = upgrade(arguments.store, progress.update)
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "store": str(arguments.store),
                "former_version": done.former,
                "version": FORMAT_VERSION,
                "objects": done.objects,
            }
        )
    elif done.former == FORMAT_VERSION:
        print(f"{arguments.store} has format {FORMAT_VERSION} already")
    else:
        print(
            f"{arguments.store}: from format {done.former} to {FORMAT_VERSION},"
            f" {done.objects:,} objects verified"
        )
    return 0
