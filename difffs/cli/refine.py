"""``difffs refine STORE-or-MOUNTPOINT``."""

import argparse
import errno
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difffs.cli.arguments import filled
from difffs.cli.configured import add_configured, configured
from difffs.cli.opening import open_to_change
from difffs.cli.place import mountpoint_for
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.duration import parse_duration
from difffs.errors import EnvironmentProblem, StoreFull, UsageError
from difffs.mount.live import read_statistics, start_refining, stop_refining
from difffs.progress import Progress
from difffs.refine.tiers import COLD, TIERS, tier_named
from difffs.size import format_size

_LOOK_SECONDS = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] STORE-or-MOUNTPOINT | [options] --configured NAME"
    parser.add_argument(
        "store_or_mountpoint", metavar="STORE-or-MOUNTPOINT", nargs="?", type=filled
    )
    add_configured(parser, "mount")
    parser.add_argument(
        "--tier",
        choices=tuple(TIERS),
        help="cold: groups of 16 pages, read in tens of microseconds (default); rest: groups of 64,"
        " denser, read in milliseconds, for images that are seldom read",
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        type=parse_duration,
        help="end after that time, as in 90s, 10m or 2h; the next call goes on from there",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="threads that encode, for a store that is not mounted (default: 2, or 1 on one core)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Pack what rests more densely; an interruption ends it, and what was committed stays."""
    if arguments.workers < 1:
        raise UsageError(f"--workers {arguments.workers}: needs a number from 1")
    entry = configured(arguments, "mount", ["store_or_mountpoint"])
    where, tier, budget = arguments.store_or_mountpoint, arguments.tier, arguments.budget
    if entry is not None:
        where = str(entry.store)
        tier = tier or entry.values["refine_tier"]
        budget = budget or entry.values["refine_budget"]
    tier = tier or COLD.name
    mountpoint = mountpoint_for(where)
    if mountpoint is not None:
        done, full = _refine_mount(mountpoint, tier, budget), None
    else:
        done, full = _refine_store(Path(where), tier, budget, arguments.workers)
    if arguments.json:
        print_json({"schema_version": SCHEMA_VERSION, "where": where, **done})
    else:
        print(_line(where, done))
    if full is not None:
        raise full
    if done["error"]:
        raise EnvironmentProblem(f"refining {where} ended early: {done['error']}")
    return 0


def _refine_store(
    path: Path, tier: str, budget: float | None, workers: int
) -> tuple[dict[str, Any], StoreFull | None]:
    """Return what was done, and what has ended it early."""
    from difffs.refine.refiner import Refiner

    with (
        open_to_change(path, "refine it", lambda mount: f"difffs refine {mount}") as store,
        Progress("refine", 0, unit="pages") as shown,
    ):
        store.hold_reserve()

        def show() -> None:
            progress = refiner.progress
            shown.update(progress.pages, progress.pages + progress.pages_to_go)

        before = store.occupancy().stored
        refiner = Refiner(store, tier_named(tier), workers=workers, give_way=show)
        full = None
        try:
            refiner.run(budget)
        except StoreFull as error:
            full, refiner.progress.error = error, str(error)
        store.give_reserve_back()
        after = store.occupancy().stored
    done = {**refiner.progress.to_dict(), "stored_before": before, "stored_after": after}
    return done, full


def _refine_mount(mountpoint: str, tier: str, budget: float | None) -> dict[str, Any]:
    before = _statistics(mountpoint)["bytes"]["stored"]
    try:
        start_refining(mountpoint, tier, budget)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise EnvironmentProblem(
                f"the mount on {mountpoint} does not refine: {error.strerror}"
            ) from error
        print("the mount refines already: this is how that pass goes on", file=sys.stderr)
    with Progress("refine", 0, unit="pages") as shown:
        try:
            while True:
                time.sleep(_LOOK_SECONDS)
                statistics = _statistics(mountpoint)
                progress = statistics["refine"]
                shown.update(progress["pages"], progress["pages"] + progress["pages_to_go"])
                if not progress["running"]:
                    break
        except BaseException:  # an interruption, most often
            stop_refining(mountpoint)
            raise
    done = {key: value for key, value in progress.items() if key not in ("by_itself", "running")}
    return {**done, "stored_before": before, "stored_after": statistics["bytes"]["stored"]}


def _statistics(mountpoint: str) -> dict[str, Any]:
    try:
        return read_statistics(mountpoint)
    except OSError as error:
        raise EnvironmentProblem(
            f"the mount on {mountpoint} does not tell its statistics: {error.strerror}"
        ) from error


def _line(where: str, done: Mapping[str, Any]) -> str:
    before, after = done["stored_before"], done["stored_after"]
    end = "" if done["finished"] else "; there is more to do"
    damaged = f", {done['unreadable']:,} damaged ones left" if done["unreadable"] else ""
    return (
        f"{where}: {done['members']:,} of {done['pages']:,} pages in {done['groups']:,} groups"
        f"{damaged}, stored {format_size(before)} before, {format_size(after)} now{end}"
    )
