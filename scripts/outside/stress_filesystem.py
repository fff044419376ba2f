"""stress-ng's class ``filesystem``, each stressor by itself and with ``--verify``."""

from __future__ import annotations

import re
import subprocess

from outside.suite import Outcome, Run, Suite, SuiteError, last_lines, missing, run_tool
from tests.integration import harness

_ELSEWHERE = "does not touch the folder that it is given"
LEFT_OUT = {
    "acl": "access control lists are EOPNOTSUPP",
    "bind-mount": _ELSEWHERE,
    "binderfs": _ELSEWHERE,
    "eventfd": _ELSEWHERE,
    "ioprio": _ELSEWHERE,
    "procfs": _ELSEWHERE,
    "sysfs": _ELSEWHERE,
    "link": "a volume has one name: hard links are EPERM",
    "xattr": "extended attributes are EOPNOTSUPP",
}
_NOT_HERE = 3
"""Exit status: the stressor does not work on this file system or kernel."""
_SKIPPING = re.compile(r"stress-ng: info: +\[\d+\] (.*skipp.*)")


def _obstacle() -> str | None:
    return harness.obstacle() or missing("stress-ng")


def stressors() -> list[str]:
    """Return the names of the class, as this version of stress-ng has them."""
    done = subprocess.run(
        ["stress-ng", "--class", "filesystem?"], check=False, capture_output=True, text=True
    )
    _, found, names = (done.stdout + done.stderr).partition("stressors:")
    if not found:
        raise SuiteError(f"stress-ng does not list the class: {done.stderr.strip()}")
    return names.split()


def _run(run: Run) -> Outcome:
    outcome = Outcome()
    seconds = run.seconds(2)
    with harness.mounted_store() as mounted:
        folder = mounted.path / "stress"
        folder.mkdir()
        for name in stressors():
            if name in LEFT_OUT:
                continue
            log = run.evidence / f"{name}.log"
            command = ["stress-ng", "--temp-path", folder, "--verify", f"--{name}", "1"]
            words = [*map(str, command), "--timeout", str(seconds), "--oomable"]
            status = run_tool(words, log, seconds=120 + seconds, folder=run.evidence)
            skipping = _SKIPPING.search(log.read_text(errors="replace"))
            if status == _NOT_HERE or (status == 0 and skipping is not None):
                said = last_lines(log, 1) if skipping is None else skipping.group(1)
                outcome.skipped.append(said)
            elif status:
                outcome.failed.append(f"{name}: exit status {status}: {last_lines(log)}")
            else:
                outcome.passed += 1
            for path in folder.iterdir():
                outcome.failed.append(f"{name}: left {path.name} behind")
                path.rename(mounted.path / f"left-by-{name}-{path.name}")
        mounted.remount()
    outcome.remarks.append(f"{seconds} s each")
    return outcome


SUITE = Suite(
    "stress-filesystem",
    "stress-ng's class filesystem with --verify",
    LEFT_OUT,
    _obstacle,
    _run,
)
