"""FUSE, on hosts that lack one thing or another."""

import os
from pathlib import Path

import pytest

from difffs.doctor import fuse
from tests.doctor.made_host import ROOT, USER, found, made_host

MOUNT = "70 20 0:50 / /mnt/pages rw - fuse.difffs /srv/pages rw,user_id=0,allow_other\n"


def test_device(tmp_path: Path) -> None:
    check = found(fuse.device, made_host(tmp_path / "a"))
    assert check.state == "missing"
    assert "modprobe fuse" in check.remedy
    node = {"/dev/fuse": ""}
    unloaded = made_host(tmp_path / "b", {**node, "/proc/filesystems": "nodev\tsysfs\n"})
    assert found(fuse.device, unloaded).state == "off"
    loaded = made_host(tmp_path / "c", {**node, "/proc/filesystems": "nodev\tfuse\n\tfuseblk\n"})
    assert found(fuse.device, loaded).state == "ok"
    loaded.path("/dev/fuse").unlink()
    loaded.path("/dev/fuse").mkdir()
    assert found(fuse.device, loaded).state == "limited"


def test_library(tmp_path: Path) -> None:
    assert found(fuse.library, made_host(tmp_path)).found.startswith("libfuse 3.")


def test_fusermount(tmp_path: Path) -> None:
    assert found(fuse.fusermount, made_host(tmp_path / "a")).state == "ok", "root needs none"
    host = made_host(tmp_path / "b", base=USER)
    assert found(fuse.fusermount, host).state == "missing"
    host = made_host(tmp_path / "c", base=USER, programs={"/bin/fusermount3": ""})
    check = found(fuse.fusermount, host)
    assert check.state == "limited"
    assert "chmod u+s" in check.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: no set-uid program can be made")
def test_fusermount_reads_mtab(tmp_path: Path) -> None:
    host = made_host(tmp_path, base=USER, programs={"/bin/fusermount3": ""})
    host.path("/bin/fusermount3").chmod(0o4755)
    assert "mtab" in found(fuse.fusermount, host).remedy
    host.path("/etc").mkdir()
    host.path("/etc/mtab").symlink_to("../proc/self/mounts")
    assert found(fuse.fusermount, host).state == "ok"


def test_allow_other(tmp_path: Path) -> None:
    assert found(fuse.allow_other, made_host(tmp_path / "a")).state == "ok"
    for text, state in (
        (None, "limited"),
        ("#user_allow_other\nmount_max = 10\n", "limited"),
        ("mount_max = 10\nuser_allow_other\n", "ok"),
    ):
        files = {} if text is None else {"/etc/fuse.conf": text}
        assert found(fuse.allow_other, made_host(tmp_path / "b", files, base=USER)).state == state


@pytest.mark.parametrize(
    ("text", "state"),
    [(None, "ok"), ("256\n", "ok"), ("65535\n", "ok"), ("32\n", "limited"), ("x\n", "unknown")],
)
def test_max_pages_limit(tmp_path: Path, text: str | None, state: str) -> None:
    files = {} if text is None else {"/proc/sys/fs/fuse/max_pages_limit": text}
    assert found(fuse.max_pages_limit, made_host(tmp_path, files)).state == state


def test_request_timeouts(tmp_path: Path) -> None:
    assert found(fuse.request_timeouts, made_host(tmp_path / "a")).state == "ok"
    folder = "/proc/sys/fs/fuse"
    files = {f"{folder}/default_request_timeout": "0\n", f"{folder}/max_request_timeout": "0\n"}
    assert found(fuse.request_timeouts, made_host(tmp_path / "b", files)).state == "ok"
    files[f"{folder}/max_request_timeout"] = "90\n"
    check = found(fuse.request_timeouts, made_host(tmp_path / "c", files))
    assert check.state == "limited"
    assert check.remedy.startswith("sysctl fs.fuse.max_request_timeout=0")


def test_dirty_limits(tmp_path: Path) -> None:
    other = {"/sys/class/bdi/7:0/strict_limit": "0\n"}
    assert found(fuse.dirty_limits, made_host(tmp_path / "a", other)).state == "ok"
    assert (
        "only root" in found(fuse.dirty_limits, made_host(tmp_path / "b", other, base=USER)).found
    )
    assert "6.2" in found(fuse.dirty_limits, made_host(tmp_path / "c")).remedy
    mounted = {**other, "/proc/self/mountinfo": ROOT["/proc/self/mountinfo"] + MOUNT}
    limits = {"/sys/class/bdi/0:50/strict_limit": "1\n", "/sys/class/bdi/0:50/max_ratio": "1\n"}
    check = found(fuse.dirty_limits, made_host(tmp_path / "d", {**mounted, **limits}))
    assert check.state == "limited"
    assert "/mnt/pages" in check.found
    assert "echo 0 > /sys/class/bdi/0:50/strict_limit" in check.remedy
    limits = {"/sys/class/bdi/0:50/strict_limit": "0\n", "/sys/class/bdi/0:50/max_ratio": "100\n"}
    assert found(fuse.dirty_limits, made_host(tmp_path / "d", {**mounted, **limits})).state == "ok"


def test_mount_helper(tmp_path: Path) -> None:
    host = made_host(tmp_path / "a")
    check = found(fuse.mount_helper, host)
    assert check.state == "off"
    assert check.matters_for == ()
    host.path("/sbin").mkdir(parents=True)
    host.path("/sbin/mount.fuse.difffs").symlink_to("/elsewhere/difffs")
    assert found(fuse.mount_helper, host).state == "ok"
    programs = {"/usr/local/bin/difffs": "", "/sbin/mount.fuse": ""}
    host = made_host(tmp_path / "b", programs=programs)
    assert found(fuse.mount_helper, host).state == "ok"
