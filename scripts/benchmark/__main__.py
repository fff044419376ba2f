"""``python -m benchmark``: what ``scripts/bench`` runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from benchmark import data, host
from benchmark.mix import compare_mixes
from benchmark.options import Options, parse
from benchmark.result import Part, render
from benchmark.work import BenchmarkError, Work

SCHEMA_VERSION = 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _measure(name: str, work: Work) -> Part:
    """Run one part; whatever goes wrong in it is told, and the others are run all the same."""
    work.say(f"{name}:")
    before, began = host.load_average(), time.monotonic()
    part: Part = import_module(f"benchmark.parts.{name}").measure(work)
    part.seconds = time.monotonic() - began
    part.load = before, host.load_average()
    return part


def _run(options: Options, folder: Path) -> int:
    images = data.prepare(options, folder)
    work = Work(options, folder, images, _say)
    machine = host.describe()
    if not options.json:
        print(f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}")
        print(f"data: {images.origin}: {images.size >> 20} MiB; medians of {options.rounds}")
    parts: list[Part] = []
    failures: dict[str, str] = {}
    for name in options.parts:
        try:
            part = _measure(name, work)
        except (BenchmarkError, OSError) as error:
            failures[name] = str(error)
            _say(f"{name} failed: {error}")
            continue
        parts.append(part)
        if not options.json:
            print(f"\n{render(part)}", flush=True)
    if options.json:
        report = {
            "schema_version": SCHEMA_VERSION,
            "machine": machine,
            "data": {"origin": images.origin, "bytes": images.size},
            "rounds": options.rounds,
            "parts": {part.name: part.to_json() for part in parts},
            "failures": failures,
        }
        json.dump(report, sys.stdout, indent=1)
        print()
    return 1 if failures else 0


@contextmanager
def _own_folder(chosen: Path | None) -> Iterator[Path]:
    """Make an empty folder in memory: for root a tmpfs of its own that is never swapped out.

    (A store that carries swap must not be swapped itself.)
    """
    base = chosen or Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="difffs-bench-", dir=base))
    command = ["mount", "-t", "tmpfs", "-o", "noswap,size=90%", "difffs-bench", str(folder)]
    mounted = (
        chosen is None
        and os.geteuid() == 0
        and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Run as a command. 0: measured; 1: a part failed; 2: wrong usage."""
    options = parse(arguments)
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(_own_folder(options.folder))
        if options.check_generator:
            print(compare_mixes(options, folder))
            return 0
        return _run(options, folder)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
