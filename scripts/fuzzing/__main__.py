"""``python -m fuzzing``: what ``scripts/fuzz-images`` runs."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.corpus import keep_smallest, kept_inputs, write_inputs
from fuzzing.options import Options, parse
from fuzzing.store_target import SCRATCH
from fuzzing.targets import Target, target_named
from fuzzing.trying import Counts

_LONGEST = 4096
"""Bytes of an input that libFuzzer makes."""
_HANG_SECONDS = 120


def _say(text: str) -> None:
    print(text, flush=True)


class _Fuzzing:
    """One target after the other, each in a process of its own, one at a time."""

    def __init__(self, options: Options, scratch: Path) -> None:
        self._options = options
        self._scratch = scratch
        self._has_guide = importlib.util.find_spec("atheris") is not None
        if not self._has_guide:
            _say("no atheris (pip install 'difffs[fuzz]'): mutations without looking at coverage")
        self.total = Counts()
        self.broken: list[str] = []

    def fuzz(self, target: Target, share: float) -> None:
        """Gives a target its share of runs and seconds."""
        options = self._options
        runs = None if options.runs is None else max(int(options.runs * share), 1)
        seconds = None if options.seconds is None else options.seconds * share
        folder = self._scratch / target.name
        seeds, inputs = folder / "seeds", (options.corpus or folder) / target.name
        seeds.mkdir(parents=True)
        inputs.mkdir(parents=True, exist_ok=True)
        write_inputs(target, seeds)
        began = time.monotonic()
        counts = Counts()
        guided = options.guided if self._has_guide else 0.0
        if guided:
            counts = self._process(
                target,
                "guided",
                [
                    *(str(inputs), str(seeds), f"-seed={options.seed}", "-rss_limit_mb=0"),
                    *(f"-max_len={_LONGEST}", f"-timeout={_HANG_SECONDS}", "-verbosity=0"),
                    *([] if runs is None else [f"-runs={max(int(runs * guided), 1)}"]),
                    *([] if seconds is None else [f"-max_total_time={int(seconds * guided) + 1}"]),
                ],
            )
        if guided < 1:
            left = (1 << 62) if runs is None else max(runs - counts.runs, 0)
            limit = "" if seconds is None else str(seconds * (1 - guided))
            arguments = [str(options.seed), str(left), limit, str(seeds), str(inputs)]
            counts = counts.plus(self._process(target, "unguided", arguments))
        took = time.monotonic() - began
        if options.keep:
            found = [path.read_bytes() for path in inputs.iterdir()]
            keep_smallest(target, [*found, *kept_inputs(target.name)])
        self.total = self.total.plus(counts)
        _say(_line(target.name, counts, took))

    def _process(self, target: Target, how: str, arguments: list[str]) -> Counts:
        out = self._scratch / target.name / how
        out.mkdir()
        command = [sys.executable, "-m", f"fuzzing.{how}", target.name, str(out), *arguments]
        with (out / "log").open("wb") as log:
            status = subprocess.run(
                command,
                stdout=log,
                stderr=log,
                cwd=out,
                env=os.environ | {SCRATCH: str(out)},
            ).returncode
        counts = Counts.read(out)
        for report in sorted(out.glob("*.report")):
            self._keep(target, report)
        if status:
            tail = "\n".join((out / "log").read_text(errors="replace").splitlines()[-20:])
            self.broken.append(f"{target.name}: the process ended with {status}:\n{tail}")
            self._options.findings.mkdir(parents=True, exist_ok=True)
            for path in [*out.glob("crash-*"), *out.glob("timeout-*"), *out.glob("oom-*")]:
                shutil.copy(path, self._options.findings / f"{target.name}-{path.name}.input")
        return counts

    def _keep(self, target: Target, report: Path) -> None:
        folder = self._options.findings
        folder.mkdir(parents=True, exist_ok=True)
        for path in (report, report.with_suffix(".input")):
            shutil.copy(path, folder / f"{target.name}-{path.name}")
        _say(f"FOUND {target.name} {report.stem}: {report.read_text().strip().splitlines()[-1]}")


def _line(name: str, counts: Counts, took: float) -> str:
    return (
        f"{name:14} {counts.runs:10,} runs {counts.runs / max(took, 1e-9):7,.0f}/s"
        f" {counts.runs / max(counts.seconds, 1e-9):7,.0f}/s of processor time;"
        f" {counts.accepted:,} accepted, {counts.damaged:,} damaged,"
        f" {counts.other_format:,} of another format, {counts.not_here:,} not here;"
        f" slowest {1000 * counts.slowest:.0f} ms; {counts.findings} findings"
    )


def main(arguments: list[str]) -> int:
    """Run as a command. 0: nothing found, 1: something, 2: usage."""
    options = parse(arguments)
    chosen = [target_named(name) for name in options.names]
    weights = sum(target.weight for target in chosen)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="difffs-fuzz-") as scratch:
        fuzzing = _Fuzzing(options, Path(scratch))
        for target in chosen:
            fuzzing.fuzz(target, target.weight / weights)
    for text in fuzzing.broken:
        _say(text)
    _say(_line("all", fuzzing.total, time.monotonic() - began))
    return 1 if fuzzing.total.findings or fuzzing.broken else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
