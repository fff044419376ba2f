"""The command line of ``scripts/make-formats``."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from collection.releases import MIRROR

from formats.plan import PAUSE_SECONDS, PROGRAMS

SMALLEST_MEBIBYTES = 96
LARGEST_MEBIBYTES = 2048
"""Below the hole that q35 has under 4 GiB: the guest's RAM is one piece."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to write, and where."""

    folder: Path
    mebibytes: int
    seed: int
    programs: tuple[str, ...]
    """Of ``formats.plan.PROGRAMS``, in that order."""
    seconds: float
    """Of work between the two pauses."""
    vga: bool
    mirror: str


def _mebibytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([MG])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"no size: {text!r} (256M, 1G)")
    size = int(found[1]) * (1024 if found[2] == "G" else 1)
    if not SMALLEST_MEBIBYTES <= size <= LARGEST_MEBIBYTES:
        raise argparse.ArgumentTypeError(
            f"{text} is not from {SMALLEST_MEBIBYTES}M to {LARGEST_MEBIBYTES}M"
        )
    return size


def _programs(text: str) -> tuple[str, ...]:
    words = text.split(",")
    for word in words:
        if word not in PROGRAMS:
            raise argparse.ArgumentTypeError(f"no {word!r}; there are {', '.join(PROGRAMS)}")
    return tuple(program for program in PROGRAMS if program in words)


def parse(arguments: list[str]) -> Options:
    """Return the options; exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="scripts/make-formats")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--memory", type=_mebibytes, default=256, metavar="SIZE")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--programs", type=_programs, default=PROGRAMS, metavar="A,B")
    parser.add_argument("--seconds", type=float, default=PAUSE_SECONDS, metavar="N")
    parser.add_argument("--vga", action="store_true")
    parser.add_argument("--mirror", default=MIRROR, metavar="URL")
    found = parser.parse_args(arguments)
    if not 0 <= found.seed < 1 << 31:
        parser.error("--seed needs a number from 0 to 2147483647")
    if not 0 <= found.seconds <= 86400:
        parser.error("--seconds needs a number from 0 to 86400")
    return Options(
        folder=found.folder.absolute(),
        mebibytes=found.memory,
        seed=found.seed,
        programs=found.programs,
        seconds=found.seconds,
        vga=found.vga,
        mirror=found.mirror,
    )
