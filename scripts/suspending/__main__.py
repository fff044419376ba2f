"""``python -m suspending``: what ``scripts/suspend-resume`` runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from trial.folder import folder_with_room

from difffs.errors import EnvironmentProblem
from difffs.size import format_size
from suspending.actions import resume, suspend
from suspending.command import obstacle, run, say
from suspending.options import parse, trial_options
from suspending.trial import run as run_trial

_PROGRAM = "suspend-resume"


def _act(options: argparse.Namespace) -> None:
    done = (suspend if options.action == "suspend" else resume)(options.qmp, options.state)
    print(json.dumps(done.as_json(), indent=2) if options.json else done.text())


def _try(options: argparse.Namespace) -> None:
    if reason := obstacle():
        raise EnvironmentProblem(reason)
    wanted = trial_options(options)
    with folder_with_room("suspend", wanted.mebibytes << 20) as folder:
        found = run_trial(wanted, folder, say)
    print(json.dumps(found, indent=2) if options.json else _text(found))


def _text(found: Mapping[str, Any]) -> str:
    stored = format_size(found["store"]["stored"])
    lines = [
        f"RAM {found['mebibytes']} MiB, of which the guest has written"
        f" {format_size(found['store']['logical'])}; the store takes {stored} (factor"
        f" {found['factor']:.2f}), the devices' state"
        f" {format_size(found['suspend']['state_bytes'])}",
        *(f"  {seconds:7.2f} s  {name}" for name, seconds in found["seconds"].items()),
        f"suspended at count {found['counted']['before']}, resumed and counted to"
        f" {found['counted']['after']}; its memory was verified at every count,"
        " the store was clean",
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run as a command."""
    options = parse(arguments)
    return run(_PROGRAM, lambda: (_try if options.action == "trial" else _act)(options))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
