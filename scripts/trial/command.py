"""difffs's commands, as their users call them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_DIFFFS = (sys.executable, "-m", "difffs")


class CommandFailed(Exception):
    """A command of difffs's did not end well; the text has what it said."""


def difffs(*words: str | Path, seconds: float = 120) -> str:
    """Run a difffs command and return its stdout. ``CommandFailed`` with its stderr."""
    command = [*_DIFFFS, *(str(word) for word in words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        shown = " ".join(["difffs", *command[3:]])
        raise CommandFailed(f"{shown}: exit {done.returncode}: {said[-800:]}")
    return done.stdout
