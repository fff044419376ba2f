"""``difffs swapon STORE``."""

import argparse
import sys

from difffs.cli.arguments import filled_path
from difffs.cli.configured import add_configured, configured
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.errors import UsageError
from difffs.mount.options import parse_options
from difffs.size import format_size
from difffs.swap_settings import DEFAULT_SIZE, swap_priority, swap_size


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] STORE | [options] --configured NAME"
    parser.add_argument(
        "store", metavar="STORE", nargs="?", type=filled_path, help="made if it does not exist"
    )
    add_configured(parser, "swap")
    parser.add_argument(
        "--size", metavar="SIZE", help=f"of the swap area, 50%% of memory, say ({DEFAULT_SIZE})"
    )
    parser.add_argument("--priority", metavar="N", help="0 to 32767, higher is first")
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

    entry = configured(arguments, "swap", ["store"])
    size, priority = _size(arguments.size), _priority(arguments.priority)
    if entry is None:
        size = _size(DEFAULT_SIZE) if size is None else size
    else:
        arguments.store = entry.store
        arguments.options = [*entry.mount_options, *arguments.options]
        size = entry.values["size"] if size is None else size
        priority = entry.values["priority"] if priority is None else priority
    options = parse_options(arguments.options, swap.DEFAULT_OPTIONS)
    if options.read_only or options.remount:
        raise UsageError("-o ro and -o remount are not for swapping: leave them out")
    assert size is not None
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


def _size(text: str | None) -> int | None:
    try:
        return None if text is None else swap_size(text)
    except UsageError as error:
        raise UsageError(f"--size {error}") from None


def _priority(text: str | None) -> int | None:
    try:
        return None if text is None else swap_priority(text)
    except UsageError as error:
        raise UsageError(f"--priority {error}") from None
