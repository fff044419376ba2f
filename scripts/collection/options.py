"""The command line of ``scripts/collect-images``."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from collection.plan import CORPORA, SMALL, Member, members
from collection.releases import MIRROR


@dataclass(frozen=True, slots=True)
class Options:
    """What to collect, and where."""

    folder: Path
    members: tuple[Member, ...]
    jobs: int
    mirror: str
    accelerator: str
    only_list: bool
    json: bool
    verify: bool


def _corpora(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        if word not in CORPORA:
            raise argparse.ArgumentTypeError(f"no corpus {word!r}; there are {', '.join(CORPORA)}")
    return words


def parse(arguments: list[str]) -> Options:
    """Return the options; exits with status 2 on wrong ones."""
    parser = argparse.ArgumentParser(
        prog="scripts/collect-images",
        description="Builds Debian guests, lets them work and keeps images of their memory.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the images go")
    parser.add_argument(
        "--small", action="store_true", help="two guests of 128 MiB instead of all corpora"
    )
    parser.add_argument(
        "--corpora", type=_corpora, help=f"of {','.join(CORPORA)} (all)", metavar="A,B"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="guests at once (cores)"
    )
    parser.add_argument("--mirror", default=MIRROR, metavar="URL", help=f"archive ({MIRROR})")
    parser.add_argument(
        "--accel", choices=("auto", "kvm", "tcg"), default="auto", help="kvm, tcg or auto (auto)"
    )
    parser.add_argument("--list", action="store_true", help="print the plan and what is there")
    parser.add_argument("--json", action="store_true", help="the manifest on stdout")
    parser.add_argument(
        "--verify", action="store_true", help="compare images that are there with their sums"
    )
    found = parser.parse_args(arguments)
    if found.jobs < 1:
        parser.error("--jobs needs at least 1")
    if found.small and found.corpora:
        parser.error("--small is a corpus of its own: leave --corpora out")
    if "," in str(found.folder):
        parser.error(f"QEMU takes no comma in a path: {found.folder}")
    return Options(
        folder=found.folder.absolute(),
        members=SMALL if found.small else tuple(members(found.corpora or CORPORA)),
        jobs=found.jobs,
        mirror=found.mirror,
        accelerator=found.accel,
        only_list=found.list,
        json=found.json,
        verify=found.verify,
    )
