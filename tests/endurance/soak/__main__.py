"""``scripts/endurance soak``: an hour of overwrites, discards, fsyncs and crashes."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from difffs.mount.live import mount_at
from difffs.refine.tiers import TIERS
from tests.endurance.needs import obstacle
from tests.endurance.soak.trial import soak
from tests.integration import harness


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/endurance soak", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=3600, metavar="S", help="how long (3600)")
    add("--seed", type=int, default=1, metavar="N", help="another course of things (1)")
    add("--size", type=int, default=512, metavar="MIB", help="of all volumes together (512)")
    add("--pace", type=float, default=4000, metavar="N", help="pages a second at most (4000)")
    add("--refine", choices=tuple(TIERS), help="refine all the time; compared with a fresh store")
    add("--keep", type=Path, default=Path("endurance-failures"), metavar="DIR",
        help="where a failing store goes")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="a report with all that was measured")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run as a command. 0: the promise was kept, 1: it was not, 2: something is missing here."""
    options = _parse(arguments)
    if (reason := obstacle()) is not None:
        print(f"endurance: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts are taken away
    told = time.monotonic()

    def say(text: str) -> None:
        nonlocal told
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    with harness.folder_in_memory() as folder:
        mounted = harness.Mounted(folder)
        try:
            report = soak(
                mounted,
                options.seconds,
                options.seed,
                options.size,
                options.pace,
                say,
                options.refine,
            )
            faults = report.faults
        except AssertionError as error:
            print(f"VIOLATION {error}")
            faults = [str(error)]
        else:
            print(report.text())
            if options.json is not None:
                options.json.write_text(json.dumps(report.as_json()) + "\n")
        finally:
            while mount_at(mounted.path) is not None:
                subprocess.run(harness.unmount_command(mounted.path, lazy=True), check=True)
        if faults:
            kept = options.keep / f"soak-{options.seed}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(mounted.store, kept)
            print(f"the store: {kept}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
