"""The command line of ``scripts/fuzz-images``."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from fuzzing.targets import targets


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    runs: int | None
    seconds: float | None
    names: list[str]
    seed: int
    corpus: Path | None
    findings: Path
    keep: bool
    """Whether the smallest inputs of each kind replace those in tests/images/corpus."""
    guided: float
    """The share of runs that are guided by coverage."""


def parse(arguments: list[str]) -> Options:
    """Return the options; exits with status 2 on wrong ones."""
    known = [each.name for each in targets()]
    parser = argparse.ArgumentParser(prog="scripts/fuzz-images")
    parser.add_argument("--runs", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="S")
    parser.add_argument("--format", action="append", choices=known, metavar="NAME")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--corpus", type=Path, metavar="FOLDER")
    parser.add_argument("--findings", type=Path, metavar="FOLDER", default=Path("fuzz-findings"))
    parser.add_argument("--guided", type=float, default=0.2, metavar="SHARE")
    parser.add_argument("--keep", action="store_true")
    found = parser.parse_args(arguments)
    if found.runs is None and found.seconds is None:
        found.seconds = 60.0
    if (found.runs or 1) < 1 or (found.seconds or 1) <= 0 or not 0 <= found.guided <= 1:
        parser.error("--runs and --seconds need more than 0, --guided from 0 to 1")
    return Options(
        runs=found.runs,
        seconds=found.seconds,
        names=found.format or known,
        seed=found.seed,
        corpus=found.corpus,
        findings=found.findings,
        keep=found.keep,
        guided=found.guided,
    )
