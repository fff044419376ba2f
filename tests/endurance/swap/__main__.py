"""``scripts/endurance swap``: rounds of swapon, a process that is swapped, swapoff and check."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from trial import cgroup, swap
from trial.held_hog import HogError

from tests.endurance.swap.trial import Report, try_round
from tests.integration import harness


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/endurance swap", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=100, metavar="N", help="how many (100)")
    add("--memory", type=int, default=128, metavar="MIB", help="of the process (128)")
    add("--resident", type=int, default=48, metavar="MIB", help="that it may have (48)")
    add("--keep", type=Path, default=Path("endurance-failures"), metavar="DIR",
        help="where a failing store goes")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="a report with all that was measured")
    found = parser.parse_args(arguments)
    if found.rounds < 1 or not 16 <= found.resident < found.memory:
        parser.error("at least one round, and --resident of at least 16 and less than --memory")
    return found


def obstacle() -> str | None:
    """Say why nothing can be swapped here, or None."""
    return harness.obstacle() or swap.obstacle() or cgroup.obstacle()


def main(arguments: list[str]) -> int:
    """Run as a command. 0: the promise was kept, 1: it was not, 2: something is missing here."""
    options = _parse(arguments)
    if (reason := obstacle()) is not None:
        print(f"endurance: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # areas are taken away
    report, began = Report(), time.monotonic()
    with harness.folder_in_memory() as folder:
        store = folder / "store"
        for number in range(1, options.rounds + 1):
            try:
                one = try_round(store, number, options.memory, options.resident)
            except (AssertionError, HogError, subprocess.SubprocessError) as error:
                report.faults.append(f"round {number}: {error}")
                break
            report.add(one)
            print(
                f"round {number:4}: {one.full.pages:7,} pages in the store, {one.left.pages:6,}"
                f" left ({one.in_use:6,} in use, {one.held:5,} held), {one.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
            if one.faults:
                break
        report.seconds = time.monotonic() - began
        print(report.text())
        if options.json is not None:
            options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
        if report.faults:
            kept = options.keep / "swap"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(store, kept)
            print(f"the store: {kept}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
