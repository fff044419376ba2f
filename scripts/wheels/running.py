"""Programs that builds and tests call, and virtual environments."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
CHECKOUT = SCRIPTS.parent


def cache_folder() -> Path:
    """Where downloads and logs stay: ``$DIFFFS_CACHE``, or ``.cache`` in the checkout."""
    folder = Path(os.environ.get("DIFFFS_CACHE") or CHECKOUT / ".cache")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


class WheelError(Exception):
    """A wheel cannot be built, installed or used; the text says why, with the tool's last lines."""


def surroundings(**more: str) -> dict[str, str]:
    """This process's environment without what would have Python find another difffs."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**mine, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **more}


def run(command: Sequence[str | Path], *, cwd: Path | None = None, **more: str) -> str:
    """Run a program with ``more`` in its environment; return its stdout.

    Raises WheelError with the last lines that it said.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=surroundings(**more),
        )
    except OSError as error:
        raise WheelError(f"{words[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise WheelError(f"{' '.join(words)} ended with {done.returncode}\n{said}")
    return done.stdout


def environment(folder: Path, python: Path, *requirements: str | Path) -> Path:
    """Make a virtual environment with what is required, from wheels alone: nothing is compiled.

    Returns its Python. Raises WheelError.
    """
    run([python, "-m", "venv", "--clear", folder])
    made = folder / "bin/python"
    if requirements:
        pip = (made, "-m", "pip", "install", "--quiet", "--only-binary", ":all:")
        run([*pip, *requirements], CC="/bin/false")  # a compiler that is there could help unnoticed
    return made
