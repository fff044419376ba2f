"""``scripts/endurance damage``: trials of damage to a store's files."""

import argparse
import json
import sys
from pathlib import Path

from tests.endurance.damage.trials import Trials


def main(arguments: list[str]) -> int:
    """Run as a command. 0: every read was right or an error; 1: not so."""
    parser = argparse.ArgumentParser(prog="scripts/endurance damage", description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="how many (1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another course of things")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with this trial")
    parser.add_argument(
        "--mounted", type=float, default=0.02, metavar="SHARE", help="under a live mount (0.02)"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("endurance-failures"),
        metavar="DIR",
        help="failing stores",
    )
    parser.add_argument("--json", action="store_true", help="the totals as JSON")
    options = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    trials = Trials(options.seed, options.keep, say)
    trials.run(options.first, options.first + options.trials, mounted=options.mounted)
    if options.json:
        print(json.dumps(trials.totals.as_json()))
    else:
        say(trials.totals.text())
    return 1 if trials.totals.failures else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
