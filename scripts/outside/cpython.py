"""CPython's tests of files, with their temporary files in the mount."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from outside.suite import SETUP, Outcome, Run, Suite, SuiteError, last_lines, run_tool
from tests.integration import harness

PYTHON = "/usr/bin/python3"
"""The distribution's, whose tests are a package of its own."""

FILES = (
    *("bz2", "dbm_dumb", "fcntl", "file", "file_eintr", "filecmp", "fileinput", "fileio"),
    *("fileutils", "genericpath", "glob", "gzip", "io", "largefile", "lzma", "mailbox", "mmap"),
    *("os", "pathlib", "posix", "posixpath", "shelve", "shutil", "subprocess", "tarfile"),
    *("tempfile", "zipapp", "zipfile", "zipimport"),
)
LEFT_OUT = {"test_hardlink_to": "a volume has one name: hard links are EPERM"}


def _obstacle() -> str | None:
    reason = harness.obstacle()
    if reason is None:
        program = [PYTHON, "-c", "import test.test_file, test.test_zipimport"]
        try:
            if subprocess.run(program, check=False, capture_output=True).returncode:
                reason = f"no tests of {PYTHON} ({SETUP})"
        except OSError:
            reason = f"no {PYTHON}"
    return reason


def judge(report: Path, outcome: Outcome) -> None:
    """Count the cases of regrtest's report in JUnit's format."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = case.get("name", "")
        wrong = [child for child in case if child.tag in ("error", "failure")]
        if wrong:
            said = (wrong[0].text or "").strip().splitlines()
            outcome.failed.append(f"{name}: {said[-1] if said else wrong[0].tag}")
        elif case.get("status") == "run":
            outcome.passed += 1


def _run(run: Run) -> Outcome:
    outcome = Outcome()
    log, report = run.evidence / "log", run.evidence / "report.xml"
    with harness.mounted_store() as mounted:
        folder = mounted.path / "temporary"
        folder.mkdir()
        surroundings = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        } | {"TMPDIR": str(folder)}
        ignored = [word for name in LEFT_OUT for word in ("-i", name)]
        words = ["-m", "test", "--timeout", "300", "--tempdir", str(folder), *ignored]
        names = [f"test_{name}" for name in FILES]
        status = run_tool(
            [PYTHON, *words, "--junit-xml", report, *names],
            log,
            seconds=1500,
            environment=surroundings,
            folder=folder,
        )
        if not report.exists():
            raise SuiteError(f"CPython's tests: {last_lines(log)}")
        judge(report, outcome)
        if status and not outcome.failed:
            outcome.failed.append(f"exit status {status}: {last_lines(log)}")
        mounted.remount()
    outcome.remarks.append(f"{len(FILES)} files of tests")
    return outcome


SUITE = Suite(
    "cpython",
    "CPython's tests of files, with their temporary folder in the mount",
    LEFT_OUT,
    _obstacle,
    _run,
)
