"""The command line of ``scripts/endurance``."""

import argparse
from dataclasses import dataclass
from pathlib import Path

SUITES = ("sigkill", "power-cut", "io-errors")


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    suite: str
    rounds: int | None
    each_point: int
    seconds: float
    seed: int
    keep: Path
    replay: Path | None
    json: bool
    scratch: Path | None


def parse(arguments: list[str]) -> Options:
    """Return the options; exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="scripts/endurance")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--each-point", type=int, metavar="N", default=0)
    parser.add_argument("--seconds", type=float, metavar="S", default=float("inf"))
    parser.add_argument("--seed", type=int, metavar="N", default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", default=Path("endurance-failures"))
    parser.add_argument("--replay", type=Path, metavar="DIR")
    parser.add_argument("--scratch", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    found = parser.parse_args(arguments)
    if (found.rounds or 1) < 1 or found.each_point < 0:
        parser.error("--rounds needs more than 0, --each-point 0 or more")
    return Options(
        suite=found.suite,
        rounds=found.rounds,
        each_point=found.each_point,
        seconds=found.seconds,
        seed=found.seed,
        keep=found.keep,
        replay=found.replay,
        json=found.json,
        scratch=found.scratch,
    )
