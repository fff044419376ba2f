"""What the parts share: options, data, a folder, and the way to start processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmark.data import Images
from benchmark.options import Options

SCRIPTS = Path(__file__).resolve().parents[1]
T = TypeVar("T")


class BenchmarkError(Exception):
    """Something went wrong that makes the figures worthless; the text says what."""


@dataclass(frozen=True, slots=True)
class Work:
    """One run of the benchmark."""

    options: Options
    folder: Path
    """Empty at first, removed at the end."""
    images: Images
    say: Callable[[str], None]

    def rounds(self, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """Call every contender once a round, in turn, so that all see the same conditions."""
        results: dict[str, list[T]] = {name: [] for name in contenders}
        for number in range(self.options.rounds):
            for name, measure in contenders.items():
                self.say(f"  round {number + 1} of {self.options.rounds}: {name}")
                results[name].append(measure())
        return results


def environment() -> dict[str, str]:
    """Return what a Python process of the benchmark needs to find its modules."""
    return {**os.environ, "PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}


def run_module(module: str, *words: str | Path | int, seconds: float = 3600) -> dict[str, Any]:
    """Run ``python -m benchmark.MODULE`` in a process of its own; return the JSON it prints."""
    command = [sys.executable, "-m", f"benchmark.{module}", *map(str, words)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=seconds, env=environment()
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-800:]}")
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def run_tool(*command: str | Path, seconds: float = 600) -> str:
    """Run a tool; return its stdout. BenchmarkError with its complaint."""
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip()[-800:]
        raise BenchmarkError(f"{' '.join(words)}: exit {done.returncode}: {complaint}")
    return done.stdout
