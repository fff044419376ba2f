"""What a suite is, and what comes of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wheels.sources import Source

SETUP = "scripts/setup --with-outside-suites"


class SuiteError(Exception):
    """A suite could not be brought to its end; the text says why, with the tool's last lines."""


@dataclass(slots=True)
class Outcome:
    """What a suite found."""

    passed: int = 0
    """Cases that did."""
    failed: list[str] = field(default_factory=list)
    """Each case that did not, with what it said."""
    skipped: list[str] = field(default_factory=list)
    """Cases that the suite itself left out here, with its reason."""
    remarks: list[str] = field(default_factory=list)
    """Figures worth telling."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a suite gets."""

    evidence: Path
    """A folder of its own for logs; kept when something fails."""
    scale: float
    """What to multiply durations with."""

    def seconds(self, usual: float) -> int:
        """Return a duration in whole seconds."""
        return max(1, round(usual * self.scale))


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite and how to run it."""

    name: str
    about: str
    left_out: Mapping[str, str]
    """Cases that are not run, or are expected to fail, and why; docs/outside-suites.md has them."""
    obstacle: Callable[[], str | None]
    """Says why it cannot run here, or None."""
    run: Callable[[Run], Outcome]
    """Mounts what it needs. SuiteError, AssertionError or OSError when it comes to no end."""
    source: Source | None = None
    """What is downloaded for it."""


def missing(*tools: str) -> str | None:
    """Say which of the programs is not installed, or None."""
    for tool in tools:
        if shutil.which(tool) is None:
            return f"no {tool} ({SETUP})"
    return None


def run_tool(
    command: Sequence[str | Path],
    log: Path,
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    enter: Callable[[], None] | None = None,
    user: int | None = None,
) -> int:
    """Run a program with stdout and stderr appended to ``log``; return its exit status.

    ``enter`` is called in the new process. SuiteError when it is not done after ``seconds``.
    """
    with log.open("ab") as output:
        try:
            return subprocess.run(
                [str(word) for word in command],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                env=None if environment is None else dict(environment),
                cwd=folder,
                preexec_fn=enter,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            ).returncode
        except subprocess.TimeoutExpired:
            raise SuiteError(f"{command[0]}: no end after {seconds:g} s; see {log}") from None


def last_lines(log: Path, count: int = 3) -> str:
    """Return the end of a log as one line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-count:])[-600:]
