"""scripts/outside-suites: each suite for a short time, and how its words are judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from outside import cpython, libfuse_syscalls
from outside.suite import Outcome
from outside.suites import SUITES

ROOT = Path(__file__).parents[2]
NAMES = [suite.name for suite in SUITES]


def outside(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the package as the script does, without the set-up."""
    return subprocess.run(
        [sys.executable, "-m", "outside", *words],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.integration
@pytest.mark.minutes
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", NAMES)
def test_a_suite_that_others_wrote(name: str, tmp_path: Path) -> None:
    done = outside(name, "--keep", str(tmp_path / "logs"), "--json", str(tmp_path / "report"))
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = json.loads((tmp_path / "report").read_text())
    if "skipped" in report:
        pytest.skip(report["skipped"])
    assert report["passed"] > 0


def test_every_case_left_out_is_in_the_documents_with_its_reason() -> None:
    text = (ROOT / "docs" / "outside-suites.md").read_text()
    listed = outside("--list").stdout
    for suite in SUITES:
        assert suite.about in listed
        assert f"| `{suite.name}` |" in text
        for case, reason in suite.left_out.items():
            assert f"left out: {case}: {reason}" in listed
            rows = [line for line in text.splitlines() if line.startswith(f"| `{suite.name}` |")]
            assert any(f"`{case}`" in row for row in rows), (suite.name, case)
    assert f"{len(cpython.FILES)} files" in text


def test_an_unknown_suite_is_a_usage_error() -> None:
    done = outside("nothing")
    assert done.returncode == 2
    assert "unknown suite nothing" in done.stderr


def test_cases_of_libfuse_are_judged_by_the_list() -> None:
    text = "  1 [create] OK\n  2 [link] link: No\n  3 [mkdir] mkdir: No\n  4 [socket] OK\n"
    outcome = Outcome()
    libfuse_syscalls.judge(text, "root", outcome)
    assert outcome.passed == 1
    assert [line.split(": ")[1] for line in outcome.failed] == ["mkdir", "socket"]


def test_cases_of_cpython_are_judged_by_its_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase name="good" status="run" result="completed" />'
        '<testcase name="not-here" status="notrun" result="suppressed"><skipped /></testcase>'
        '<testcase name="wrong" status="run"><failure>words\nlast words</failure></testcase>'
        "</testsuite></testsuites>"
    )
    outcome = Outcome()
    cpython.judge(report, outcome)
    assert (outcome.passed, outcome.failed) == (1, ["wrong: last words"])
