"""The command line of ``scripts/record-guest``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from collection.plan import FULL, SMALL, Member

from difffs.recipe import RECIPES

MEMBERS = {f"{member.corpus}/{member.name}": member for member in (*FULL, *SMALL)}
SMALL_GUEST_MEBIBYTES = 160


@dataclass(frozen=True, slots=True)
class Options:
    """What to record."""

    file: Path
    collection: Path | None
    """None: the small guest."""
    member: Member
    """Which guest of the collection."""
    seconds: float
    mebibytes: int
    interval: float
    send: float
    recipe: str
    accelerator: str


def parse(arguments: list[str]) -> Options:
    """Return the options; exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="scripts/record-guest")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--collection", type=Path, metavar="DIR")
    parser.add_argument("--guest", choices=MEMBERS, default="mixed-1/debian-12-compile")
    parser.add_argument("--seconds", type=float, default=180, metavar="N")
    parser.add_argument("--memory", type=int, metavar="MIB")
    parser.add_argument("--interval", type=float, default=0.5, metavar="S")
    parser.add_argument("--send", type=float, default=1, metavar="S")
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    found = parser.parse_args(arguments)
    if found.seconds <= 0 or found.interval <= 0 or found.send < 0:
        parser.error("--seconds and --interval need more than 0, --send at least 0")
    if found.memory is not None and found.memory < 96:
        parser.error("--memory needs at least 96 MiB")
    if not found.file.absolute().parent.is_dir():
        parser.error(f"no folder for {found.file}")
    member = MEMBERS[found.guest]
    return Options(
        file=found.file,
        collection=found.collection.absolute() if found.collection else None,
        member=member,
        seconds=found.seconds,
        mebibytes=found.memory or (member.mebibytes if found.collection else SMALL_GUEST_MEBIBYTES),
        interval=found.interval,
        send=found.send,
        recipe=found.recipe,
        accelerator=found.accel,
    )
