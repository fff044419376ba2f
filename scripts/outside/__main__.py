"""``python -m outside``: what ``scripts/outside-suites`` runs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from formats.place import LET_GO

from outside.suite import Run, Suite, SuiteError
from outside.suites import SUITES


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/outside-suites")
    parser.add_argument("suite", nargs="*", metavar="SUITE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0, metavar="N")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    known = [suite.name for suite in SUITES]
    for name in options.suite:
        if name not in known:
            parser.error(f"unknown suite {name}: one of {', '.join(known)}")
    if not options.scale > 0:
        parser.error("--scale needs more than 0")
    return options


def _say(text: str) -> None:
    print(text, flush=True)


def _run(suite: Suite, scale: float, keep: Path | None) -> dict[str, Any]:
    """Run one suite and tell; return its report."""
    if (reason := suite.obstacle()) is not None:
        _say(f"{suite.name:18} skipped: {reason}")
        return {"suite": suite.name, "skipped": reason}
    evidence = Path(tempfile.mkdtemp(prefix=f"difffs-outside-{suite.name}-"))
    began = time.monotonic()
    report: dict[str, Any] = {"suite": suite.name, "left_out": dict(suite.left_out)}
    try:
        outcome = suite.run(Run(evidence, scale))
        failed, report["passed"] = outcome.failed, outcome.passed
        report["not_here"], report["remarks"] = outcome.skipped, outcome.remarks
        if not outcome.passed and not failed:
            failed.append("no case was run")
    except (SuiteError, AssertionError, OSError, subprocess.SubprocessError) as error:
        failed = [f"{type(error).__name__}: {error}"]
        report["passed"], report["not_here"], report["remarks"] = 0, [], []
    report["failed"], report["seconds"] = failed, round(time.monotonic() - began, 1)
    counts = [f"{report['passed']} passed", f"{len(failed)} failed"]
    if suite.left_out:
        counts.append(f"{len(suite.left_out)} left out")
    if report["not_here"]:
        counts.append(f"{len(report['not_here'])} not possible here")
    told = "; ".join([", ".join(counts), *report["remarks"]])
    _say(f"{suite.name:18} {told}; {report['seconds']} s")
    for text in report["not_here"]:
        _say(f"  not here: {text}")
    for text in failed:
        _say(f"  FAILED {text}")
    if failed:
        kept = evidence
        if keep is not None:
            kept = keep / suite.name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(evidence, kept)
            shutil.rmtree(evidence)
        _say(f"  its logs: {kept}")
    else:
        shutil.rmtree(evidence)
    return report


_ALONE = "DIFFFS_OUTSIDE_ALONE"
"""Set in the environment once this process has a mount namespace of its own."""


def _alone(words: list[str]) -> list[str]:
    """Return the command that runs ``words`` in a mount namespace of its own."""
    letting_go = ["sh", "-c", f'{LET_GO}exec "$@"', "sh"]
    return ["unshare", "--mount", "--propagation", "private", *letting_go, *words]


def _be_alone() -> None:
    """Go on in a mount namespace of its own, as root: what is mounted here then is in nobody
    else's, who could hold it, and is gone with this process."""
    if os.geteuid() or _ALONE in os.environ or shutil.which("unshare") is None:
        return
    if subprocess.run(_alone(["true"]), check=False, capture_output=True).returncode == 0:
        command = _alone([sys.executable, "-m", "outside", *sys.argv[1:]])
        scripts = Path(__file__).parents[1]
        modules = os.pathsep.join(map(str, (scripts, scripts.parent)))
        surroundings = {**os.environ, _ALONE: "1", "PYTHONPATH": modules}
        os.execvpe(command[0], command, surroundings)


def main(arguments: list[str]) -> int:
    """Run as a command. 0: nothing failed, 1: something did."""
    options = _options(arguments)
    if not options.list:
        _be_alone()
    chosen = [suite for suite in SUITES if not options.suite or suite.name in options.suite]
    if options.list:
        for suite in chosen:
            _say(f"{suite.name:18} {suite.about}")
            for name, reason in suite.left_out.items():
                _say(f"  left out: {name}: {reason}")
        return 0
    reports = [_run(suite, options.scale, options.keep) for suite in chosen]
    if options.json is not None:
        options.json.write_text(json.dumps(reports, indent=2) + "\n")
    return 1 if any(report.get("failed") for report in reports) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
