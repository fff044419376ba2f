"""``difffs stats STORE-or-MOUNTPOINT``."""

import argparse
import sys
import time
from datetime import datetime
from typing import Any

from difffs.cli.arguments import filled
from difffs.cli.place import mountpoint_for
from difffs.cli.report import print_json
from difffs.errors import EnvironmentProblem, StoreBusy, UsageError
from difffs.mount.live import read_statistics
from difffs.size import format_size

_ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")

_LONGEST_SECONDS = 10**9
"""Python sleeps no longer than nine times as much."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("where", metavar="STORE-or-MOUNTPOINT", type=filled)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=float,
        help="again and again, with what has changed; with --json one object a line",
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the statistics, once or until interrupted."""
    if arguments.watch is None:
        statistics = gather(arguments.where)
        if arguments.json:
            print_json(statistics)
        else:
            print(table(statistics))
        return 0
    if not 0 < arguments.watch <= _LONGEST_SECONDS:
        raise UsageError(
            f"--watch {arguments.watch:g}: needs seconds above 0, {_LONGEST_SECONDS:,} at most"
        )
    return _watch(arguments.where, arguments.watch, as_json=arguments.json)


def gather(where: str) -> dict[str, Any]:
    """Return the statistics of a mount, or of a store whether it is mounted or not."""
    mountpoint = mountpoint_for(where)
    if mountpoint is not None:
        return _ask(mountpoint)
    from difffs import stats
    from difffs.store import Store

    with Store.open(where, read_only=True) as store:
        return stats.collect(store)


def _ask(mountpoint: str) -> dict[str, Any]:
    try:
        return read_statistics(mountpoint)
    except OSError as error:
        raise EnvironmentProblem(
            f"the mount on {mountpoint} does not tell its statistics: {error.strerror}; "
            "see the log in its store"
        ) from error


def _watch(where: str, seconds: float, *, as_json: bool) -> int:
    earlier: dict[str, Any] | None = None
    earlier_time = 0.0
    try:
        while True:
            try:
                statistics = gather(where)
            except StoreBusy:
                # Being mounted or unmounted right now.
                time.sleep(seconds)
                continue
            now = time.monotonic()
            if as_json:
                print_json(statistics, indent=None)
            else:
                if sys.stdout.isatty():
                    sys.stdout.write("\x1b[H\x1b[2J")
                print(table(statistics))
                if earlier is not None:
                    print(_rates(earlier, statistics, now - earlier_time))
                print(flush=True)
            earlier, earlier_time = statistics, now
            time.sleep(seconds)
    except KeyboardInterrupt:
        return 0


def _rates(earlier: dict[str, Any], later: dict[str, Any], seconds: float) -> str:
    parts = []
    for route in _ROUTES:
        before, after = earlier["routes"][route], later["routes"][route]
        change = (after["count"] - before["count"]) / seconds
        if change:
            parts.append(f"{route} {change:,.0f}")
    stored = later["bytes"]["stored"] - earlier["bytes"]["stored"]
    sign = "-" if stored < 0 else "+"
    return (
        f"\npages a second: {', '.join(parts) or 'none'}; "
        f"stored {sign}{format_size(abs(stored) / seconds)}/s"
    )


def table(statistics: dict[str, Any]) -> str:
    """Return the statistics as people read them."""
    lines = [_heading(statistics), ""]
    lines += _route_table(statistics)
    lines.append("")
    sizes = statistics["bytes"]
    lines.append(
        f"logical {format_size(sizes['logical'])}, stored {format_size(sizes['stored'])} "
        f"(payload {format_size(sizes['payload'])}, slack {format_size(sizes['slack'])}, "
        f"metadata {format_size(sizes['metadata'])})"
    )
    lines.append(f"factor {statistics['factor']:.2f}")
    memory = statistics["memory"]
    lines.append(
        f"memory: daemon {format_size(memory['daemon_rss'])}, "
        f"write buffer {format_size(memory['write_buffer'])}, "
        f"page cache of the store {format_size(memory['page_cache'])}"
        if "mountpoint" in statistics
        else f"memory: page cache of the store {format_size(memory['page_cache'])}"
    )
    missing = [
        f"{entry['setting']} ({entry['reason']})"
        for entry in statistics.get("kernel_settings", [])
        if not entry["applied"]
    ]
    if missing:
        lines.append(f"kernel settings not applied: {', '.join(missing)}")
    return "\n".join(lines)


def _heading(statistics: dict[str, Any]) -> str:
    parts = [str(statistics["store"])]
    if "mountpoint" in statistics:
        parts.append(f"mounted on {statistics['mountpoint']}")
    parts.append(f"recipe {statistics['recipe']}")
    since = datetime.fromtimestamp(statistics["since"])
    parts.append(f"since {since:%Y-%m-%d %H:%M}")
    return ", ".join(parts)


def _route_table(statistics: dict[str, Any]) -> list[str]:
    pages = statistics["pages"]
    total = pages["total"]
    lines = [
        f"{'route':<10} {'pages':>13} {'share':>7}   {'written':>13} {'bytes/page':>10} "
        f"{'encode us':>9} {'decode us':>9}"
    ]
    for route in _ROUTES:
        work = statistics["routes"][route]
        count, decoded = work["count"], work.get("decode_count", 0)
        lines.append(
            f"{route:<10} {pages[route]:>13,} {_share(pages[route], total):>7}   "
            f"{count:>13,} {_mean(work['bytes_out'], count, 0):>10} "
            f"{_mean(work['encode_us'], count, 1):>9} {_mean(work['decode_us'], decoded, 1):>9}"
        )
    lines.append(f"{'total':<10} {total:>13,} {_share(total, total):>7}")
    return lines


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _mean(total: float, count: int, digits: int) -> str:
    return f"{total / count:,.{digits}f}" if count else "-"
