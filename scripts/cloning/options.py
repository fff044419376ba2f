"""The command line of ``scripts/clone-guest``."""

from __future__ import annotations

import argparse
from pathlib import Path

from suspending.options import add_trial_options, count

_CLONES = 4
_SETTLING_SECONDS = 10.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options, of which ``action`` says which there are; exits with 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="scripts/clone-guest")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    start = actions.add_parser("start", help="start clones of a suspended guest")
    start.add_argument("--memory", type=Path, required=True, metavar="FILE")
    start.add_argument("--state", type=Path, required=True, metavar="FILE")
    start.add_argument("--settle", type=float, default=_SETTLING_SECONDS, metavar="S")
    start.add_argument("--json", action="store_true")
    start.add_argument("command", nargs="+", metavar="COMMAND")
    trial = actions.add_parser("trial", help="all of it with a guest of its own")
    add_trial_options(trial)
    for action in (start, trial):
        action.add_argument("--clones", type=count, default=_CLONES, metavar="N")
    found = parser.parse_args(arguments)
    if found.action == "start" and found.settle < 0:
        parser.error("--settle needs at least 0")
    return found
