"""What scripts/setup installs is what scripts/requirements.lock says, to the last package."""

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "scripts/requirements.lock"
# pip is the one that the distribution puts into each virtual environment.
# scripts/fuzz-images installs atheris where it can be had, and goes without elsewhere.
NOT_LOCKED = {"difffs", "pip", "atheris"}
NOT_LOCKED_EXTRAS = {"fuzz"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9A-Za-z.]+", line) for line in lines), lines
    return dict(line.split("==") for line in lines)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> list[str]:
    """Of the build, of running, and of every extra that is locked."""
    found = project()
    extras: dict[str, list[str]] = found["project"]["optional-dependencies"]
    return [
        *found["build-system"]["requires"],
        *found["project"]["dependencies"],
        *(
            line
            for name, extra in extras.items()
            if name not in NOT_LOCKED_EXTRAS
            for line in extra
        ),
    ]


def required_here() -> set[str]:
    """By the installed packages, with this Python on this system."""
    lines = (line for one in distributions() for line in one.requires or [])
    wanted = (Requirement(line) for line in lines)
    return {
        canonical(one.name)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def test_the_lock_has_one_sorted_line_a_package() -> None:
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(set(names))


@pytest.mark.parametrize("line", sorted(set(requirements())))
def test_every_requirement_is_locked_at_a_version_that_it_takes(line: str) -> None:
    wanted = Requirement(line)
    version = locked().get(canonical(wanted.name))
    assert version is not None, f"{line}: run scripts/lock"
    assert wanted.specifier.contains(version), f"{line}: locked is {version}: run scripts/lock"


@pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv", reason="not the environment that scripts/setup makes"
)
def test_every_installed_package_has_its_locked_version() -> None:
    installed = {canonical(one.metadata["Name"]): one.version for one in distributions()}
    unexpected = {
        name: version
        for name, version in installed.items()
        if name not in NOT_LOCKED and locked().get(name) != version
    }
    assert not unexpected, "scripts/lock renews the lock, scripts/setup installs by it"
    # what Debian 12's Python needs and a later one does not is locked for both
    absent = locked().keys() - installed.keys()
    assert not absent & required_here()
    assert not absent or sys.version_info >= (3, 12), absent
