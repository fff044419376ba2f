"""What is asked of the kernel, and what is said of settings that it refuses."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from difffs.mount import kernel_tuning
from difffs.mount.kernel_tuning import KernelTuning, request_timeouts


@pytest.mark.parametrize("offered", [0, 1 << 16])
def test_negotiation(offered: int) -> None:
    tuning = KernelTuning(256 << 10)
    connection = SimpleNamespace(capable=offered | 0x380, want=0x380)
    config = SimpleNamespace()
    tuning.negotiate(connection, config)
    assert connection.max_write == 1 << 20
    assert connection.max_readahead == 256 << 10
    assert connection.want == offered, "splicing costs; the write-back cache only if offered"
    assert config.kernel_cache == 1
    assert config.attr_timeout == 1
    report = {entry["setting"]: entry for entry in tuning.report()}
    assert report["writeback_cache"]["applied"] == bool(offered)
    assert all(entry["applied"] == (entry["reason"] == "") for entry in report.values())


def test_refused_settings_say_why(tmp_path: Path) -> None:
    tuning = KernelTuning(0)
    tuning._write("absent", tmp_path / "absent" / "file", "1")
    tuning._write("directory", tmp_path, "1")
    (tmp_path / "file").touch()
    tuning._write("present", tmp_path / "file", "1")
    reasons = {entry.setting: entry.reason for entry in tuning.settings}
    assert "does not exist" in reasons["absent"]
    assert "directory" in reasons["directory"]
    assert reasons["present"] == ""
    assert (tmp_path / "file").read_text() == "1"


def test_timeouts_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tuning, "_FUSE_SETTINGS", tmp_path)
    assert request_timeouts() == [], "a kernel without them"
    (tmp_path / "default_request_timeout").write_text("0\n")
    (tmp_path / "max_request_timeout").write_text("90\n")
    (warning,) = request_timeouts()
    assert "fs.fuse.max_request_timeout is 90" in warning
    assert "sysctl fs.fuse.max_request_timeout=0" in warning
