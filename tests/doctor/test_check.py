"""What a probe answers, whatever the host does to it."""

from pathlib import Path

import pytest

from difffs.doctor.check import USES, Answer, limited, missing, off, ok, probe, unknown
from difffs.doctor.host import Host
from difffs.errors import EnvironmentProblem
from tests.doctor.made_host import made_host


@pytest.mark.parametrize(
    ("answer", "is_finding"),
    [
        (ok("a"), False),
        (missing("a", "b"), True),
        (limited("a", "b"), True),
        (limited("a", "b", matters=False), False),
        (off("a"), False),
        (unknown("a"), False),
    ],
)
def test_findings_are_what_is_missing_and_matters(
    tmp_path: Path, answer: Answer, is_finding: bool
) -> None:
    @probe("a.b", "swap")
    def matters(_host: Host) -> Answer:
        return answer

    @probe("a.c")
    def never(_host: Host) -> Answer:
        return answer

    assert matters.check(made_host(tmp_path)).is_finding == is_finding
    assert not never.check(made_host(tmp_path)).is_finding


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (EnvironmentProblem("qemu did not answer within 10 s"), "did not answer within 10 s"),
        (ValueError("invalid literal"), "invalid literal"),
        (IndexError("list index out of range"), "makes no sense"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte"),
    ],
)
def test_what_cannot_be_told_is_unknown(tmp_path: Path, error: Exception, text: str) -> None:
    @probe("a.b", *USES)
    def look(_host: Host) -> Answer:
        raise error

    check = look.check(made_host(tmp_path))
    assert check.state == "unknown"
    assert text in check.found
    assert not check.is_finding
    assert ("as root" in check.remedy) == isinstance(error, PermissionError)


def test_json_has_stable_keys(tmp_path: Path) -> None:
    @probe("a.b", "guests", "study")
    def look(_host: Host) -> Answer:
        return missing("no\nsuch thing", "make\n one")

    assert look.check(made_host(tmp_path)).as_json() == {
        "name": "a.b",
        "state": "missing",
        "found": "no such thing",
        "matters_for": ["guests", "study"],
        "remedy": "make one",
    }
