"""``python -m cloning``: what ``scripts/clone-guest`` runs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from suspending.actions import SCHEMA_VERSION
from suspending.command import obstacle, run, say
from suspending.options import trial_options
from trial.folder import folder_with_room

from cloning.clones import CommandedClone, expect_command, expect_suspended, go_on
from cloning.memory import clones_memory, table
from cloning.options import parse
from cloning.trial import run as run_trial
from difffs.errors import EnvironmentProblem

_PROGRAM = "clone-guest"
_TICK = 0.2


def _start(options: argparse.Namespace) -> None:
    expect_command(options.command)
    expect_suspended(options.memory, options.state)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="difffs-clones-")))
        clones, processes = [], []
        for number in range(1, options.clones + 1):
            one = CommandedClone(str(number), options.memory, folder, words=options.command)
            clones.append(running.enter_context(one))
            process, memory = go_on(one, options.state)
            processes.append(process)
            say(f"clone {number} runs, process {process}, its monitor at {one.socket}")
        time.sleep(options.settle)
        found = clones_memory(processes, memory)
        if options.json:
            print(json.dumps({"schema_version": SCHEMA_VERSION, **found.as_json()}, indent=2))
        else:
            print(table([found]))
        sys.stdout.flush()
        say("waiting for the clones to end; Ctrl-C ends them")
        while any(one.running for one in clones):
            time.sleep(_TICK)


def _try(options: argparse.Namespace) -> None:
    if reason := obstacle():
        raise EnvironmentProblem(reason)
    wanted = trial_options(options)
    with folder_with_room("clone", wanted.mebibytes << 20) as folder:
        found = run_trial(wanted, options.clones, folder, say)
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
        return
    print(table(found.looks))
    print(
        f"{options.clones} clones take {found.ratio:.2f} times the memory of one, everything"
        f" counted; without QEMU's own {found.ratio_without_qemu:.2f} times"
    )


def main(arguments: list[str]) -> int:
    """Run as a command."""
    options = parse(arguments)
    return run(_PROGRAM, lambda: (_try if options.action == "trial" else _start)(options))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
