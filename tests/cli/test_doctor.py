"""What a host offers and lacks, as people and as programs read it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from difffs.cli.main import main
from difffs.doctor.check import USES

KEYS = {"name", "state", "found", "matters_for", "remedy"}
STATES = {"ok", "missing", "limited", "off", "unknown"}


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = main(["doctor", "--json", str(tmp_path / "store")])
    report = json.loads(capsys.readouterr().out)
    assert report["schema_version"] == 1
    assert report["uses"] == list(USES)
    assert all(set(check) == KEYS for check in report["checks"])
    assert {check["state"] for check in report["checks"]} <= STATES
    findings = [
        check["name"]
        for check in report["checks"]
        if check["state"] in ("missing", "limited") and check["matters_for"]
    ]
    assert report["findings"] == findings
    assert report["clean"] == (not findings)
    assert code == bool(findings)
    assert any(check["name"] == "place.store" for check in report["checks"])
    assert not (tmp_path / "store").exists()


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--for", "swap,guests"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[1:2] == ["fuse.device"] for line in lines)
    assert not any("study.package" in line for line in lines)
    if code:
        assert "finding" in lines[-1]
    else:
        assert lines[-1] == "nothing is missing that matters for guests, swap"


@pytest.mark.parametrize("uses", ["gusts", "", "swap,,guests"])
def test_uses_that_are_none(uses: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--for", uses]) == 2
    assert "there are guests, swap, images, study" in capsys.readouterr().err


def test_a_host_without_libfuse() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "difffs", "doctor", "--json"],
        env={**os.environ, "FUSE_LIBRARY_PATH": "/absent.so"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    report = json.loads(done.stdout)
    (check,) = (check for check in report["checks"] if check["name"] == "fuse.library")
    assert check["state"] == "missing"
    assert "apt install fuse3" in check["remedy"]
