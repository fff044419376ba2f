"""``scripts/endurance guests``: two guests on a store that the host swaps to at the same time."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from trial import guest

from difffs.mount.live import mount_at
from tests.endurance.guests.trial import try_guests
from tests.endurance.swap.__main__ import obstacle as swapping_obstacle
from tests.integration import harness

_TELLING_SECONDS = 60.0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/endurance guests", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=600, metavar="S", help="how long (600)")
    add("--keep", type=Path, default=Path("endurance-failures"), metavar="DIR",
        help="where a failing store goes")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="a report with all that was measured")
    return parser.parse_args(arguments)


def obstacle() -> str | None:
    """Say why this cannot be tried here, or None."""
    return swapping_obstacle() or guest.obstacle()


def main(arguments: list[str]) -> int:
    """Run as a command. 0: the promise was kept, 1: it was not, 2: something is missing here."""
    options = _parse(arguments)
    if (reason := obstacle()) is not None:
        print(f"endurance: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # areas and mounts are taken away
    told = time.monotonic()

    def say(text: str) -> None:
        nonlocal told
        if time.monotonic() - told > _TELLING_SECONDS:
            told = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    with harness.folder_in_memory() as folder:
        mounted = harness.Mounted(folder)
        try:
            report = try_guests(mounted, options.seconds, say)
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
            kept = options.keep / "guests"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(mounted.store, kept)
            print(f"the store: {kept}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
