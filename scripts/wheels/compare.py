"""``python -m wheels.compare``: what ``scripts/compare-wheels`` runs."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wheels.running import SCRIPTS, WheelError, environment, run

READS = 20_000
MOUNT_BYTES = 64 << 20


@dataclass(slots=True)
class Contender:
    """A wheel in an environment of its own, and what was measured of it."""

    wheel: Path
    python: Path
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Of each round; more is better."""
    stored: dict[str, int] = field(default_factory=dict)


def _worker(python: Path, module: str, *words: str | Path | int) -> dict[str, Any]:
    """Return the JSON that a module of scripts/ prints, with the wheel's difffs."""
    command = [str(python), "-m", module, *map(str, words)]
    said = run(command, cwd=Path("/"), PYTHONPATH=str(SCRIPTS), PYTHONDONTWRITEBYTECODE="1")
    values: dict[str, Any] = json.loads(said)
    return values


def _measure(contender: Contender, images: Sequence[Path], folder: Path, *, mount: bool) -> None:
    """One round. Raises WheelError, also where a wheel stores something else than before."""
    python, store = contender.python, folder / "store"
    run_ = _worker(python, "benchmark.engine_worker", "import", "default", 1, store, *images)
    reads = _worker(python, "benchmark.engine_worker", "read", store, READS, 1)
    found = {
        "import, pages/CPU s": run_["pages"] / run_["cpu_seconds"],
        "1 MiB reads, pages/s": run_["pages"] / run_["read_seconds"],
        "single reads, pages/s": 1e6 / reads["p50_us"],
    }
    if mount:
        (folder / "mount").mkdir()
        found |= _worker(python, "wheels.mount_worker", folder / "mount", MOUNT_BYTES)
    for name, rate in found.items():
        contender.rates.setdefault(name, []).append(rate)
    stored = {name: run_["bytes"][name] for name in ("payload", "stored")}
    if contender.stored and contender.stored != stored:
        raise WheelError(f"{contender.wheel} stored {contender.stored}, and now {stored}")
    contender.stored = stored


def compare(
    wheels: Sequence[Path], images: Sequence[Path], folder: Path, rounds: int, *, mount: bool
) -> list[Contender]:
    """Measure the wheels in turn, turning about who is first. Raises WheelError."""
    contenders = [
        Contender(wheel, environment(folder / f"venv{number}", Path(sys.executable), wheel))
        for number, wheel in enumerate(wheels)
    ]
    for number in range(rounds):
        print(f"compare-wheels: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            place = folder / "round"
            place.mkdir()
            _measure(contender, images, place, mount=mount)
            shutil.rmtree(place)
    return contenders


def table(first: Contender, second: Contender) -> list[str]:
    """Lines that tell the second's speed by the first's: of the best rounds, and in the middle."""
    lines = [f"{'':36}{'first':>12}{'second':>12}{'best':>8}{'median':>8}"]
    for name, rates in first.rates.items():
        others = second.rates[name]
        best, middle = max(others) / max(rates), statistics.median(
            b / a for a, b in zip(rates, others, strict=True)
        )  # fmt: skip
        lines.append(f"{name:36}{max(rates):12,.0f}{max(others):12,.0f}{best:8.3f}{middle:8.3f}")
    for name, stored in first.stored.items():
        lines.append(f"{name + ', bytes':36}{stored:12,}{second.stored[name]:12,}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="compare-wheels", allow_abbrev=False)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("images", type=Path, nargs="+", metavar="image")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--mount", action="store_true")
    chosen = parser.parse_args(arguments)
    for file in (chosen.first, chosen.second, *chosen.images):
        if not file.is_file():
            parser.error(f"no file {file}")
    images = [image.resolve() for image in chosen.images]
    try:
        with tempfile.TemporaryDirectory(prefix="difffs-compare-", dir="/dev/shm") as name:
            both = [chosen.first.resolve(), chosen.second.resolve()]
            found = compare(both, images, Path(name), chosen.rounds, mount=chosen.mount)
            print(*table(*found), sep="\n")
    except WheelError as error:
        print(f"compare-wheels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
