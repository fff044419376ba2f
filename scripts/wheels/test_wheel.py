"""``python -m wheels.test_wheel``: what ``scripts/test-wheel`` runs."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wheels import interpreters
from wheels.running import SCRIPTS, WheelError, cache_folder, environment, run
from wheels.sources import SOURCES

VERSIONS = tuple(f"{source.name}={source.version}" for source in SOURCES)


def say(text: str) -> None:
    """Progress: it goes to stderr."""
    print(f"test-wheel: {text}", file=sys.stderr, flush=True)


def told(where: str, found: dict[str, Any]) -> str:
    """One line about what the smoke test found."""
    mounted = "mounted" if found["mounted"] else f"not mounted: {found['not_mounted_because']}"
    guest = f", guest: {found['guest']}" if found["guest"] else ""
    payload, stored = found["bytes"]["payload"], found["bytes"]["stored"]
    return (
        f"{where}, Python {found['python']}: payloads of {payload:,} bytes, stored {stored:,},"
        f" {mounted}{guest}"
    )


def try_here(wheel: Path, python: Path) -> dict[str, Any]:
    """Install the wheel in a new environment and use it. Raises WheelError."""
    with tempfile.TemporaryDirectory(prefix="difffs-wheel-") as name:
        made = environment(Path(name, "venv"), python, wheel.resolve())
        found: dict[str, Any] = json.loads(
            run(
                [made, "-m", "wheels.smoke", *VERSIONS],
                cwd=Path(name),
                PYTHONPATH=str(SCRIPTS),
                PYTHONDONTWRITEBYTECODE="1",
            )
        )
    return found


def _here(wheel: Path, pythons: Sequence[Path]) -> list[dict[str, Any]]:
    found = interpreters.found_here(pythons)
    absent = [f"3.{minor}" for minor in interpreters.MINORS if f"3.{minor}" not in found]
    if absent:
        say(f"no Python {', '.join(absent)} here")
    results = []
    for python in found.values():
        say(f"with {python}")
        results.append(try_here(wheel, python))
        print(told(str(python), results[-1]), flush=True)
    return results


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(prog="test-wheel", allow_abbrev=False)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", type=Path, action="append", default=[])
    parser.add_argument("--debian", metavar="A,B", default="")
    chosen = parser.parse_args(arguments)
    if not chosen.wheel.is_file():
        parser.error(f"no wheel {chosen.wheel}: scripts/build-wheels makes it")
    try:
        if chosen.debian:
            from wheels.debian import try_in_debian

            cache = cache_folder()
            results = []
            for codename in chosen.debian.split(","):
                results.append(try_in_debian(chosen.wheel, codename, cache, say))
                print(told(f"Debian {codename}", results[-1]), flush=True)
        else:
            results = _here(chosen.wheel, chosen.python)
    except WheelError as error:
        print(f"test-wheel: {error}", file=sys.stderr)
        return 1
    if len(different := {one["bytes"]["payload"] for one in results}) > 1:
        print(f"test-wheel: payloads of {sorted(different)} bytes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
