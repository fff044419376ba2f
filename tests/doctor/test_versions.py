"""Versions of what difffs stands on."""

import platform
import sys
from pathlib import Path

import pytest

from difffs import _kernels
from difffs.doctor import versions
from difffs.doctor.host import Host
from tests.doctor.made_host import found, made_host


def test_this_host() -> None:
    checks = {probe.name: found(probe, Host()) for probe in versions.PROBES}
    assert {check.state for check in checks.values()} == {"ok"}
    assert platform.python_version() in checks["version.python"].found
    for library in ("libzstd", "liblz4", "liblzma"):
        version = _kernels.library_versions()[library]
        assert checks[f"version.{library}"].found == f"{library} {version}"
    assert checks["version.lmdb"].found.startswith("LMDB 0.9.")


def test_kernels_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "difffs._kernels", None)
    monkeypatch.delattr("difffs._kernels")
    probes = {probe.name: probe for probe in versions.PROBES}
    check = found(probes["version.libzstd"], made_host(tmp_path))
    assert (check.state, check.remedy) == ("missing", "apt install libzstd1")
    assert check.found.startswith("the page kernels cannot be loaded: ")


def test_packages(tmp_path: Path) -> None:
    probes = {probe.name: probe for probe in versions.PROBES}
    host = made_host(tmp_path, packages={"lmdb": "3.0.0"})
    assert found(probes["version.package.lmdb"], host).state == "limited"
    assert found(probes["version.package.mfusepy"], host).state == "missing"
