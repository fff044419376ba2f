"""The CPythons of this machine that a wheel can be tried with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from wheels.running import WheelError, run

MINORS = range(11, 15)
"""Of the Python 3s that are looked for by name: what difffs promises to work with."""

_TELL = (
    "import platform, sys, venv, ensurepip;"
    "print(platform.python_implementation(), *sys.version_info[:2])"
)


def version_of(python: Path) -> str | None:
    """``3.13`` of a CPython that can make virtual environments, or None."""
    try:
        implementation, *numbers = run([python, "-c", _TELL]).split()
    except WheelError:
        return None
    return ".".join(numbers) if implementation == "CPython" else None


def found_here(more: Iterable[Path] = ()) -> dict[str, Path]:
    """The first Python of each version: those given, then those in PATH."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    candidates = [*more, Path("/usr/bin/python3")]
    for minor in MINORS:
        for folder in folders:
            if (path := shutil.which(f"python3.{minor}", path=folder)) is not None:
                candidates.append(Path(path))
    found: dict[str, Path] = {}
    for python in candidates:
        if (version := version_of(python)) is not None:
            found.setdefault(version, python)
    return dict(sorted(found.items()))
