"""``scripts/endurance swap-guest``: a guest uses more memory than it has, and swaps to a store."""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from booting.disk import DiskError
from booting.guest import obstacle
from formats.debian_root import RootError

from tests.endurance.swap_guest.trial import (
    BESIDE,
    LIMITS_MIB,
    RAM_MIB,
    REALTIME,
    STORES,
    SwapGuest,
    Trial,
)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/endurance swap-guest", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, metavar="N", help="of work in each guest (10)")
    add("--store", choices=STORES, nargs="+", default=["disk"], help="what it lies on (disk)")
    add("--beside", choices=BESIDE, nargs="+", default=["nothing"],
        help="what works beside the programs that use memory, a guest each (nothing)")  # fmt: skip
    add("--more", type=int, default=200, metavar="MIB",
        help=f"used beyond the guest's {RAM_MIB} MiB of RAM (200)")  # fmt: skip
    limits = ", ".join(f"{mib} for {store}" for store, mib in LIMITS_MIB.items())
    add("--limit", type=int, metavar="MIB",
        help=f"on the memory of all services but difffs's, 0 for none ({limits})")  # fmt: skip
    add("--realtime", action=argparse.BooleanOptionalAction,
        help="real-time scheduling for the daemon, and a reserve of memory (on tmpfs)")  # fmt: skip
    add("--newest-kernel", action="store_true",
        help="of Debian's backports; without, the release's own where that will do")  # fmt: skip
    add("--seed", type=int, default=1, metavar="N", help="other contents (1)")
    add("--keep", type=Path, default=Path("endurance-failures"), metavar="DIR",
        help="where console and disk of a guest go that failed")  # fmt: skip
    add("--scratch", type=Path, metavar="DIR", help="where disks are made: some 6 GB")
    add("--json", action="store_true", help="the report as JSON")
    options = parser.parse_args(arguments)
    if options.minutes <= 0 or options.more < 1:
        parser.error("--minutes and --more need more than 0")
    return options


def main(arguments: list[str]) -> int:
    """Run as a command. 0: all guests lived and were right, 1: one did not, 2: usage, or something
    is missing here."""
    options = _parse(arguments)
    if (reason := obstacle()) is not None:
        print(f"endurance: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # guests are ended
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    outcomes = []
    with tempfile.TemporaryDirectory(prefix="difffs-swap-guest-", dir=options.scratch) as name:
        newest = options.newest_kernel or "tmpfs" in options.store
        try:
            guest = SwapGuest(Path(name), options.more, options.seed, say, newest_kernel=newest)
        except (DiskError, RootError) as error:
            print(f"endurance: {error}", file=sys.stderr)
            return 2
        for store in options.store:
            limit = LIMITS_MIB[store] if options.limit is None else options.limit
            realtime = REALTIME[store] if options.realtime is None else options.realtime
            for beside in options.beside:
                say(f"store on {store}, beside {beside}")
                trial = Trial(store, beside, options.minutes, options.more, limit, realtime)
                outcome = guest.run(trial, newest_kernel=options.newest_kernel)
                outcomes.append(outcome)
                if outcome.faults:
                    kept = options.keep / f"swap-guest-{store}-{beside}"
                    guest.keep(kept)
                    say(f"VIOLATION: {outcome.faults[0]}; console and disk: {kept}")
    if options.json:
        print(json.dumps([outcome.as_json() for outcome in outcomes], indent=1))
    else:
        print("\n".join(outcome.text() for outcome in outcomes))
    return 1 if any(outcome.faults for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
