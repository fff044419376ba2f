"""Versions of what difffs stands on."""

import ctypes
import platform
from pathlib import Path

from difffs.doctor import versions
from difffs.doctor.host import Host
from tests.doctor.made_host import found, made_host


def test_this_host() -> None:
    checks = {probe.name: found(probe, Host()) for probe in versions.PROBES}
    assert {check.state for check in checks.values()} == {"ok"}
    assert platform.python_version() in checks["version.python"].found
    number = ctypes.CDLL("libzstd.so.1").ZSTD_versionNumber()
    text = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    assert checks["version.libzstd"].found == f"libzstd.so.1 {text}"
    assert checks["version.lmdb"].found.startswith("LMDB 0.9.")


def test_libraries_that_are_not_there(tmp_path: Path) -> None:
    absent = versions.codec_probe("a.b", "libabsent.so.7", "version", "libabsent7")
    check = found(absent, made_host(tmp_path))
    assert (check.state, check.remedy) == ("missing", "apt install libabsent7")
    silent = versions.codec_probe("a.b", "libzstd.so.1", "NO_versionString", "libzstd1")
    assert found(silent, made_host(tmp_path)).state == "unknown"


def test_packages(tmp_path: Path) -> None:
    probes = {probe.name: probe for probe in versions.PROBES}
    host = made_host(tmp_path, packages={"lmdb": "3.0.0"})
    assert found(probes["version.package.lmdb"], host).state == "limited"
    assert found(probes["version.package.mfusepy"], host).state == "missing"
