"""``difffs stats STORE-or-MOUNTPOINT...``."""

import argparse
import os
import sys
import time
from datetime import datetime
from itertools import accumulate
from typing import Any

from difffs.cli import resident
from difffs.cli.arguments import filled
from difffs.cli.columns import COLUMNS, DEFAULT_COLUMNS, Column, ColumnsAction, column_table
from difffs.cli.place import mountpoint_for
from difffs.cli.report import print_json, printable
from difffs.cli.results import require_writable_file
from difffs.errors import EnvironmentProblem, StoreBusy, UsageError
from difffs.mount.live import read_statistics
from difffs.refine.tiers import TIERS
from difffs.size import format_size
from difffs.standard_streams import output_problem

_ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")

_LONGEST_SECONDS = 10**9
"""Python sleeps no longer than nine times as much."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s STORE-or-MOUNTPOINT... [options]"
    parser.add_argument(
        "where",
        metavar="STORE-or-MOUNTPOINT",
        nargs="+",
        type=filled,
        help="several for --prometheus and for columns",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object on stdout")
    form.add_argument(
        "--prometheus",
        metavar="FILE",
        nargs="?",
        const="-",
        type=filled,
        help="metrics in Prometheus's text format, on stdout or written to FILE, which appears"
        " whole; to be given after the stores",
    )
    form.add_argument(
        "-o",
        "--output",
        metavar="COLUMNS",
        action=ColumnsAction,
        help="a line a store with these columns, as in store,stored,factor; help lists them",
    )
    form.add_argument("--output-all", action="store_true", help="a line a store with all columns")
    parser.add_argument(
        "-b", "--bytes", action="store_true", help="a line a store, with sizes in bytes"
    )
    parser.add_argument(
        "-n", "--noheadings", action="store_true", help="a line a store, without headings"
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=float,
        help="again and again, with what has changed; with --json one object a line",
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the statistics, once or until interrupted."""
    columns = _columns(arguments)
    if columns is not None or arguments.prometheus is not None:
        if arguments.watch is not None:
            raise UsageError("--watch goes with the table of one store and with --json only")
        if columns is not None and arguments.prometheus is not None:
            raise UsageError("--prometheus has no columns: leave out --bytes and --noheadings")
        if arguments.prometheus not in (None, "-"):
            require_writable_file(arguments.prometheus)
            if os.path.exists(arguments.prometheus) and not os.path.isfile(arguments.prometheus):
                raise UsageError(f"{arguments.prometheus} is no regular file: it stays as it is")
        stores = [gather(where) for where in arguments.where]
        if columns is not None:
            shown = column_table(
                stores, columns, in_bytes=arguments.bytes, headings=not arguments.noheadings
            )
            print("\n".join(shown))
        else:
            _tell_metrics(stores, arguments.prometheus)
        return 0
    if len(arguments.where) > 1:
        raise UsageError("--json and --watch are for one store: name one")
    where = arguments.where[0]
    if arguments.watch is None:
        statistics = _gather_all(where)
        if arguments.json:
            print_json(statistics)
        else:
            print(table(statistics))
        return 0
    if not 0 < arguments.watch <= _LONGEST_SECONDS:
        raise UsageError(
            f"--watch {arguments.watch:g}: needs seconds above 0, {_LONGEST_SECONDS:,} at most"
        )
    return _watch(where, arguments.watch, as_json=arguments.json)


def _columns(arguments: argparse.Namespace) -> list[Column] | None:
    """Return the columns to show; None for another form."""
    if arguments.output is not None:
        chosen: list[Column] = arguments.output
        return chosen
    if arguments.output_all:
        return list(COLUMNS)
    several = len(arguments.where) > 1 and not (
        arguments.json or arguments.prometheus or arguments.watch is not None
    )
    return list(DEFAULT_COLUMNS) if arguments.bytes or arguments.noheadings or several else None


def _tell_metrics(stores: list[dict[str, Any]], target: str) -> None:
    from difffs import __version__
    from difffs.cli.metrics import exposition
    from difffs.libraries import library_versions

    text = exposition(stores, {"version": __version__, **library_versions()})
    if target == "-":
        sys.stdout.write(text)
        return
    from difffs.cli.whole_file import whole_file

    with whole_file(target, target) as file:
        try:
            with os.fdopen(file, "w", encoding="utf-8", closefd=False) as written:
                written.write(text)
            os.fchmod(file, 0o644)  # node_exporter is another user
        except OSError as error:
            raise output_problem(target, error) from error


def gather(where: str) -> dict[str, Any]:
    """Return the statistics of a mount, or of a store whether it is mounted or not."""
    mountpoint = mountpoint_for(where)
    if mountpoint is not None:
        return _ask(mountpoint)
    from difffs import stats
    from difffs.store import Store

    with Store.open(where, read_only=True) as store:
        return stats.collect(store)


def _gather_all(where: str) -> dict[str, Any]:
    """The same, and of a mount what its volumes take of the host's memory."""
    statistics = gather(where)
    if "mountpoint" not in statistics:
        return statistics
    return resident.with_resident(statistics)


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
                statistics = _gather_all(where)
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
    if statistics["lost"]:
        lines.append(f"lost pages, reading them is an error: {statistics['lost']:,}")
    lines += _tier_lines(statistics)
    lines += _domain_lines(statistics)
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
    return "\n".join([*lines, *_request_lines(statistics), *resident.lines(statistics)])


def _tier_lines(statistics: dict[str, Any]) -> list[str]:
    """What refining has packed, where it has packed anything."""
    tiers = statistics.get("tiers", {})
    lines = [
        f"refined, {name}: {tiers[name]['objects']:,} pages in {tiers[name]['groups']:,} groups of "
        f"{format_size(tiers[name]['bytes'])}, {tiers[name]['gone']:,} gone"
        for name in TIERS
        if tiers.get(name, {}).get("groups")
    ]
    if lines and tiers["reads"]["pages"]:
        decoded = tiers["reads"]["decoded"] / tiers["reads"]["pages"]
        lines.append(f"pages decoded for each that was read of these: {decoded:.1f}")
    return lines


def _domain_lines(statistics: dict[str, Any]) -> list[str]:
    """What each domain has, of a store that keeps any."""
    if "domains" not in statistics:
        return []
    lines = ["", f"{'directory':<24} {'pages':>13} {'stored':>10} {'factor':>7} {'decode us':>9}"]
    for domain in statistics["domains"]:
        directory = domain["directory"]
        name = "(removed)" if directory is None else printable(directory) + "/"
        lines.append(
            f"{name:<24} {domain['pages']:>13,} {format_size(domain['bytes']['stored']):>10} "
            f"{domain['factor']:>7.2f} {_mean(domain['decode_us'], domain['decode_count'], 1):>9}"
        )
    if left_out := statistics.get("domains_left_out"):
        lines.append(f"and {left_out:,} smaller ones")
    return [*lines, ""]


def _request_lines(statistics: dict[str, Any]) -> list[str]:
    """What a mount has of its requests, as far as there is anything to tell."""
    lines = []
    if times := statistics.get("request_times"):
        counts = times["requests"]["page_read"]["counts"]
        half, most = (_within(counts, times["bounds_us"], part) for part in (0.5, 0.99))
        if count := sum(counts):
            lines.append(f"reads of a page: {count:,}, half of them {half}, 99 % {most}")
    failed = statistics.get("failed_requests", {})
    if any(failed.values()):
        told = ", ".join(f"{count:,} with {error}" for error, count in failed.items() if count)
        lines.append(f"requests that failed: {told}")
    if statistics.get("writing_stopped"):
        lines.append("writing has stopped: unmount, run difffs check, and see the log in the store")
    return lines


def _within(counts: list[int], bounds: list[int], part: float) -> str:
    """Say which bound that part of all has not exceeded."""
    for bound, reached in zip(bounds, accumulate(counts), strict=False):
        if reached >= part * sum(counts):
            return f"within {bound:,} us"
    return f"above {bounds[-1]:,} us"


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
