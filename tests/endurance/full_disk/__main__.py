"""``scripts/endurance full-disk``: trials that fill a file system and make room again."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.endurance.full_disk.trial import Violation, try_seed
from tests.integration.small_disks import KINDS, NotHere


def kind_of(seed: int) -> str:
    """Return the file system that a seed is tried on: of five, two tmpfs, two ext4, one btrfs."""
    return ("tmpfs", "ext4", "tmpfs", "ext4", "btrfs")[seed % 5]


def main(arguments: list[str]) -> int:
    """Run as a command. 0: nothing was violated, 1: something was."""
    parser = argparse.ArgumentParser(prog="scripts/endurance full-disk")
    parser.add_argument("--seeds", type=int, default=50, metavar="N", help="how many (50)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the first one (1)")
    parser.add_argument("--kind", choices=list(KINDS), help="of file system (by the seed)")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("endurance-failures"),
        metavar="DIR",
        help="failing stores",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="a report")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds needs at least 1")
    began, reports, violations = time.monotonic(), [], []
    for seed in range(options.seed, options.seed + options.seeds):
        kind = options.kind or kind_of(seed)
        try:
            report = try_seed(seed, kind, options.keep)
        except NotHere as reason:
            print(f"seed {seed:4} skipped: {reason}", flush=True)
            continue
        except Violation as violation:
            violations.append(str(violation))
            print(f"VIOLATION {violation}", flush=True)
            continue
        reports.append(asdict(report))
        print(
            f"seed {seed:4} {kind:5} {report.way:8} {report.writes:5} writes, "
            f"{report.synchronised:4} synchronised, {report.refused:3} refused, "
            f"{report.kills} kills, {report.pages_compared:7,} pages compared",
            flush=True,
        )
    seconds = time.monotonic() - began
    compared = sum(int(report["pages_compared"]) for report in reports)
    print(
        f"{len(reports)} of {options.seeds} seeds kept the promise, {len(violations)} did not; "
        f"{compared:,} pages compared; {seconds:.0f} s"
    )
    if options.json is not None:
        found = {"reports": reports, "violations": violations, "seconds": round(seconds, 1)}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
