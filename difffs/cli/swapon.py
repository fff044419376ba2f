"""``difffs swapon STORE``."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress

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
    store, texts = arguments.store, arguments.options
    size, priority = swap_size(DEFAULT_SIZE), None
    if entry is not None:
        store, texts = entry.store, [*entry.mount_options, *texts]
        size, priority = entry.values["size"], entry.values["priority"]
    if arguments.size is not None:
        size = _number("--size", swap_size, arguments.size)
    if arguments.priority is not None:
        priority = _number("--priority", swap_priority, arguments.priority)
    options = parse_options(texts, swap.DEFAULT_OPTIONS)
    if options.read_only or options.remount:
        raise UsageError("-o ro and -o remount are not for swapping: leave them out")
    area = swap.swap_on(store, size, priority, options)
    warnings = [*area.warnings, *_memory_warnings(swap.daemon_of(store))]
    for warning in warnings:
        print(f"difffs: {warning}", file=sys.stderr)
    if arguments.json:
        print_json(
            {
                "schema_version": SCHEMA_VERSION,
                "device": area.device,
                "volume": str(area.volume),
                "mountpoint": area.mountpoint,
                "size": size,
                "warnings": warnings,
            }
        )
    else:
        print(f"swapping to {store}: {area.device}, {format_size(size)}")
    return 0


def _memory_warnings(daemon: int | None) -> list[str]:
    """Whether others may leave the daemon without memory, in the words of ``difffs doctor``."""
    from difffs.doctor.groups import others
    from difffs.doctor.host import Host

    with suppress(OSError):
        if daemon is not None and os.sched_getscheduler(daemon) in (os.SCHED_FIFO, os.SCHED_RR):
            return []  # it goes below what the kernel keeps from the others
    check = others.check(Host())
    return [f"{check.found}; {check.remedy}"] if check.is_finding else []


def _number(option: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None
