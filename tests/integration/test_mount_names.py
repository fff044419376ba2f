"""Mount points and stores of any name, and other people's."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.mount.live import mount_at
from tests.integration import harness
from tests.integration.harness import Mounted, difffs

pytestmark = pytest.mark.integration

# What str.splitlines() takes for the end of a line, and bytes that are no UTF-8.
ODD = os.fsdecode(b"a\fb\vc\rd\x1ce\xc2\x85f\xe2\x80\xa8g\xff\x80 \\")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which everything is unmounted in the end."""
    reason = harness.obstacle()
    if reason is not None:
        pytest.skip(reason)
    with harness.folder_in_memory() as path:
        yield path


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_somebody_elses_mount_point_is_no_matter(mount: Mounted) -> None:
    odd = mount.folder / ODD
    odd.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", ODD, odd], check=True)
    try:
        other = mount_at(odd)
        assert other is not None
        assert other.source == ODD
        assert json.loads(difffs("stats", mount.path, "--json").stdout)["mountpoint"] == str(
            mount.path
        )
        mount.remount()
    finally:
        subprocess.run(["umount", odd], check=True)


def test_a_store_and_a_mount_point_of_odd_names(folder: Path) -> None:
    store, mountpoint = folder / f"store {ODD}", folder / f"mount {ODD}"
    mountpoint.mkdir()
    difffs("mount", store, mountpoint)
    try:
        (mountpoint / "file").write_bytes(b"memory")
        found = mount_at(mountpoint)
        assert found is not None
        assert (found.mountpoint, found.source) == (str(mountpoint), str(store))
        for where in (store, mountpoint):
            assert json.loads(difffs("stats", where, "--json").stdout)["store"] == str(store)
        other = folder / "other"
        other.mkdir()
        text = difffs("mount", store, other, status=5).stderr
        assert text.count("\n") == 1
        assert "mounted on" in text
        assert "device" not in text
    finally:
        difffs("umount", mountpoint)
    assert mount_at(mountpoint) is None
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]
    log = (store / "log").read_bytes()
    assert b"INFO mounted" in log
    assert b"INFO unmounted" in log
    difffs("mount", store, mountpoint, "-o", "ro")
    assert (mountpoint / "file").read_bytes() == b"memory"
    difffs("umount", mountpoint)


def test_a_link_below_the_mount_point_leads_to_the_store(folder: Path) -> None:
    """The mount hides the link; nothing of the store is looked for through it any more."""
    store, mountpoint = folder / "store", folder / "mount"
    store.mkdir()
    mountpoint.mkdir()
    (mountpoint / "link").symlink_to(store)
    difffs("mount", mountpoint / "link", mountpoint)
    (mountpoint / "file").write_bytes(b"memory")
    assert os.statvfs(mountpoint).f_blocks > 0
    assert json.loads(difffs("stats", mountpoint, "--json").stdout)["store"] == str(store)
    difffs("umount", mountpoint)
    assert "unmounted" in (store / "log").read_text()
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]
