"""Capabilities and limits of this user's processes."""

from pathlib import Path

import pytest

from difffs.doctor import process
from difffs.doctor.check import Probe
from tests.doctor.made_host import NONE, ROOT, USER, found, made_host

CAPABILITIES = [probe for probe in process.PROBES if probe.name.startswith("process.cap_")]


@pytest.mark.parametrize("probe", CAPABILITIES, ids=lambda probe: probe.name)
def test_capabilities(tmp_path: Path, probe: Probe) -> None:
    assert found(probe, made_host(tmp_path / "a")).state == "ok"
    check = found(probe, made_host(tmp_path / "b", base=USER))
    assert (check.state, check.matters_for) == ("missing", ("swap",))
    assert "sudo" in check.remedy
    contained = {"/proc/self/status": f"Uid:\t0\t0\t0\t0\nCapEff:\t{NONE}\n"}
    check = found(probe, made_host(tmp_path / "c", contained))
    assert check.state == "missing"
    assert "--cap-add" in check.remedy
    rootless = {"/proc/self/uid_map": "0 1000 1\n"}
    assert found(probe, made_host(tmp_path / "d", rootless)).state == "limited"


def test_locked_memory(tmp_path: Path) -> None:
    assert found(process.locked_memory, made_host(tmp_path / "a")).state == "ok", "CAP_IPC_LOCK"
    check = found(process.locked_memory, made_host(tmp_path / "b", base=USER))
    assert check.state == "limited"
    assert "8,388,608" in check.found
    limits = ROOT["/proc/self/limits"].replace("8388608 ", "unlimited ")
    host = made_host(tmp_path / "c", {"/proc/self/limits": limits}, base=USER)
    assert found(process.locked_memory, host).state == "ok"


def test_open_files(tmp_path: Path) -> None:
    assert found(process.open_files, made_host(tmp_path / "a")).state == "ok"
    limits = ROOT["/proc/self/limits"].replace("1024   ", "64     ")
    host = made_host(tmp_path / "b", {"/proc/self/limits": limits})
    assert found(process.open_files, host).state == "limited"
    assert found(
        process.open_files, made_host(tmp_path / "c", {"/proc/self/limits": ""})
    ).state == ("unknown")
