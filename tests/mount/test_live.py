"""Statistics on their way through an ioctl, and the table of mounts."""

import os
from pathlib import Path

import pytest

from difffs.mount import live
from difffs.mount.table import mounts


def test_statistics_survive_the_way() -> None:
    statistics = {"pages": {"total": 1 << 40}, "text": "ünï", "list": [1.5, None, True]}
    reply = live.pack_statistics(statistics)
    assert live.unpack_statistics(reply) == statistics
    padded = bytearray(reply) + bytes(live.STATISTICS_BYTES - len(reply))
    assert live.unpack_statistics(padded) == statistics


def test_statistics_have_a_limit() -> None:
    with pytest.raises(OSError, match="too long"):
        live.pack_statistics({"noise": os.urandom(live.STATISTICS_BYTES).hex()})


def test_the_request_fits_an_ioctl() -> None:
    assert live.STATISTICS_BYTES < 1 << 14
    assert (live.STATISTICS_REQUEST >> 16) & 0x3FFF == live.STATISTICS_BYTES
    assert live.STATISTICS_REQUEST < 1 << 32


def test_other_directories_tell_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="ioctl"):
        live.read_statistics(tmp_path)


def test_the_table_of_mounts(tmp_path: Path) -> None:
    table = list(mounts())
    assert any(mount.mountpoint == "/proc" for mount in table)  # a chroot has none at /
    processes = live.mount_at("/proc")
    assert processes is not None
    assert processes.kind == "proc"
    assert live.mount_at(tmp_path / "nothing") is None
    inside = live.mount_containing("/proc/self/status")
    assert inside is not None
    assert inside.mountpoint == "/proc"
    around = live.mount_containing(tmp_path / "not" / "there")
    if around is None:  # in a chroot
        assert not any(mount.mountpoint == "/" for mount in table)
    else:
        assert tmp_path.is_relative_to(around.mountpoint)
    assert live.mountpoints_of(tmp_path) == []


def test_links_to_mount_points_are_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/proc")
    found = live.mount_at(link)
    assert found is not None
    assert found.mountpoint == "/proc"
