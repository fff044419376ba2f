"""Programs and Python packages, absent, old and new."""

import re
from pathlib import Path

import pytest

from difffs.doctor.diagnosis import SUBJECTS
from difffs.doctor.packages import leading_numbers, package_probe, program_probe
from tests.doctor.made_host import found, made_host

PACKAGE = package_probe("a.package", "thing", "nothing works", "images", least=(1, 6), below=(3,))


@pytest.mark.parametrize(
    ("version", "state"),
    [
        (None, "missing"),
        ("1.5.9", "limited"),
        ("1.6", "ok"),
        ("1.10.0", "ok"),
        ("2.9rc1", "ok"),
        ("3.0.0", "limited"),
        ("unreadable", "limited"),
    ],
)
def test_packages(tmp_path: Path, version: str | None, state: str) -> None:
    packages = {} if version is None else {"thing": version}
    check = found(PACKAGE, made_host(tmp_path, packages=packages))
    assert check.state == state
    if state != "ok":
        assert check.remedy == "pip install 'thing>=1.6,<3'"
        assert "nothing works" in check.found


def test_programs(tmp_path: Path) -> None:
    probe = program_probe("a.b", "xz", "xz-utils", "it is left out", "study")
    check = found(probe, made_host(tmp_path))
    assert (check.state, check.remedy) == ("missing", "apt install xz-utils")
    host = made_host(tmp_path, programs={"/bin/xz": ""})
    assert found(probe, host).found == str(tmp_path / "root/bin/xz")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("1.7.5rc2", (1, 7, 5)), ("2", (2,)), ("1.0.dev3", (1, 0)), ("", ()), ("v1", ())],
)
def test_leading_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert leading_numbers(version) == numbers


def test_versions_are_those_that_difffs_asks_for(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text().split("test = [")[0]
    wanted = dict(re.findall(r'^ *"([\w-]+)(>=[\d.,<]+)",', text, re.MULTILINE))
    probes = {
        probe.name.partition(".package.")[2]: probe
        for _, subject in SUBJECTS
        for probe in subject
        if ".package." in probe.name
    }
    assert wanted.keys() <= probes.keys()
    for name, needed in wanted.items():
        check = found(probes[name], made_host(tmp_path, packages={name: "0.1"}))
        assert check.state == "limited"
        assert check.remedy == f"pip install '{name}{needed}'"
