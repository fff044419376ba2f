"""The command line of ``scripts/suspend-resume``."""

from __future__ import annotations

import argparse
from pathlib import Path

from suspending.trial import WORK, Options

_LEAST_MEBIBYTES = 128


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options, of which ``action`` says which there are; exits with 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="scripts/suspend-resume")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, help_text in (
        ("suspend", "stop a guest, save its devices, end its QEMU"),
        ("resume", "have a QEMU that waits go on from a state"),
    ):
        action = actions.add_parser(name, help=help_text)
        action.add_argument("--qmp", type=Path, required=True, metavar="SOCKET")
        action.add_argument("--state", type=Path, required=True, metavar="FILE")
        action.add_argument("--json", action="store_true")
    trial = actions.add_parser("trial", help="all of it with a guest of its own")
    add_trial_options(trial)
    return parser.parse_args(arguments)


def add_trial_options(parser: argparse.ArgumentParser) -> None:
    """Add what every trial takes."""
    parser.add_argument("--memory", type=_mebibytes, default=Options().mebibytes, metavar="MIB")
    parser.add_argument("--ticks", type=count, default=Options().ticks, metavar="N")
    parser.add_argument("--work", default=WORK, metavar="STEPS")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    parser.add_argument("--json", action="store_true")


def trial_options(found: argparse.Namespace) -> Options:
    """Return what :func:`add_trial_options` has read."""
    return Options(found.memory, found.ticks, found.work, found.accel)


def count(text: str) -> int:
    """Read how many; at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _mebibytes(text: str) -> int:
    mebibytes = int(text)
    if mebibytes < _LEAST_MEBIBYTES:
        raise argparse.ArgumentTypeError(f"at least {_LEAST_MEBIBYTES} MiB")
    return mebibytes
