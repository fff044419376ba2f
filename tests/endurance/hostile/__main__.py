"""``scripts/endurance hostile``: each kind of hostile pages, with what a page costs."""

import argparse
import sys
from pathlib import Path

from tests.endurance.hostile.contents import KINDS
from tests.endurance.hostile.throughput import LEAST, OTHERS, VICTIMS, measure
from tests.endurance.hostile.trial import try_kind
from tests.endurance.needs import obstacle
from tests.integration.harness import mounted_store
from tests.stores import scratch


def main(arguments: list[str]) -> int:
    """Run as a command. 0: all right and bounded, 1: not."""
    parser = argparse.ArgumentParser(prog="scripts/endurance hostile")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--throughput", action="store_true", help="instead, what a volume beside it keeps"
    )
    parser.add_argument("--seconds", type=float, default=3, metavar="S", help="of each such run")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of such runs")
    options = parser.parse_args(arguments)
    if options.throughput:
        return _throughput(options.seconds, options.rounds)
    failed = 0
    print(f"{'kind':16} pages objects  calls, bytes and us a page: written       read")
    for kind in KINDS:
        for seed in range(options.seed, options.seed + options.seeds):
            with scratch() as folder:
                try:
                    cost = try_kind(Path(folder), kind, seed)
                except AssertionError as error:
                    failed += 1
                    print(f"VIOLATION {error}", flush=True)
                    continue
            print(
                f"{kind:16} {cost.pages:5} {cost.objects:7}  "
                f"{cost.write_calls:5.2f} {cost.write_bytes:7.0f} {cost.write_microseconds:7.1f}   "
                f"{cost.read_calls:5.2f} {cost.read_bytes:7.0f} {cost.read_microseconds:7.1f}",
                flush=True,
            )
    return 1 if failed else 0


def _throughput(seconds: float, rounds: int) -> int:
    if (reason := obstacle()) is not None:
        print(f"endurance: {reason}", file=sys.stderr)
        return 2
    failed = 0
    print(f"{'victim':7} {'beside':22} pages/s: alone  together  share")
    with mounted_store() as mounted:
        for victim in VICTIMS:
            for other in OTHERS:
                share = measure(mounted.path, victim, other, seconds, rounds)
                failed += share.share < LEAST
                print(
                    f"{victim:7} {other:22} {share.alone:14,.0f} {share.together:9,.0f}"
                    f"  {share.share:5.2f}{'' if share.share >= LEAST else '  TOO LITTLE'}",
                    flush=True,
                )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
