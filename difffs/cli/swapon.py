"""``difffs swapon STORE``."""

import argparse
import sys

from difffs.cli.arguments import filled_path
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.errors import UsageError
from difffs.mount.options import parse_options
from difffs.page import MAXIMUM_VOLUME_SIZE
from difffs.size import format_size, parse_size

_LARGEST_PRIORITY = 32767


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "store", metavar="STORE", type=filled_path, help="made if it does not exist"
    )
    parser.add_argument("--size", default="4G", help="of the swap area (4G)")
    parser.add_argument("--priority", type=int, metavar="N", help="0 to 32767, higher is first")
    parser.add_argument(
        "-o",
        dest="options",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="as of difffs mount (buffer=4M)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Swap to the store."""
    from difffs import swap

    size = parse_size(arguments.size)
    if size < swap.SMALLEST_SIZE:
        raise UsageError(f"--size {arguments.size} is too small for a swap area: at least 40K")
    priority = arguments.priority
    if priority is not None and not 0 <= priority <= _LARGEST_PRIORITY:
        raise UsageError(f"--priority {priority}: needs a number from 0 to {_LARGEST_PRIORITY}")
    if size > MAXIMUM_VOLUME_SIZE:
        raise UsageError(
            f"--size {arguments.size} is larger than a volume can be:"
            f" at most {format_size(MAXIMUM_VOLUME_SIZE)}"
        )
    options = parse_options(arguments.options, swap.DEFAULT_OPTIONS)
    if options.read_only or options.remount:
        raise UsageError("-o ro and -o remount are not for swapping: leave them out")
    area = swap.swap_on(arguments.store, size, priority, options)
    for warning in area.warnings:
        print(f"difffs: {warning}", file=sys.stderr)
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "device": area.device,
                "volume": str(area.volume),
                "mountpoint": area.mountpoint,
                "size": size,
                "warnings": list(area.warnings),
            }
        )
    else:
        print(f"swapping to {arguments.store}: {area.device}, {format_size(size)}")
    return 0
