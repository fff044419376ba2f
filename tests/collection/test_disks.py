"""Disks: what is known about one is read back, and a changed recipe builds it anew."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from collection import disks
from collection.disks import Disk, DiskError, build, stamp
from collection.guests import CollectedGuest
from collection.releases import MIRROR, SYSTEMS
from trial.guest import GuestError

SYSTEM = SYSTEMS["debian-13-small"]
KNOWN = {"release": "13", "codename": "trixie", "kernel": "6.12-cloud-amd64", "packages": 200}


def built(folder: Path) -> Disk:
    folder.mkdir(parents=True)
    (folder / "disk.json").write_text(json.dumps(KNOWN))
    return Disk.open(folder)


def test_a_disk_is_read_back(tmp_path: Path) -> None:
    disk = built(tmp_path / "disk")
    known = dataclasses.asdict(disk)
    assert known.pop("folder") == tmp_path / "disk"
    assert known == KNOWN


def test_a_missing_disk_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="scripts/collect-images"):
        Disk.open(tmp_path)


def test_the_stamp_changes_with_what_is_built() -> None:
    other = dataclasses.replace(SYSTEM, packages=(*SYSTEM.packages, "hello"))
    stamps = {stamp(SYSTEM, MIRROR), stamp(other, MIRROR), stamp(SYSTEM, "http://elsewhere")}
    assert len(stamps) == 3
    assert stamp(SYSTEM, MIRROR) in stamps


def test_a_disk_that_is_up_to_date_is_not_built(tmp_path: Path) -> None:
    disk = built(tmp_path / SYSTEM.name)
    (disk.folder / "stamp").write_text(stamp(SYSTEM, MIRROR))
    said: list[str] = []
    assert build(SYSTEM, tmp_path, MIRROR, said.append) == disk
    assert said == []


@pytest.mark.skipif(disks.obstacle() is None, reason="this machine can build disks")
def test_without_tools_or_root_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=SYSTEM.name):
        build(SYSTEM, tmp_path, MIRROR, print)


def test_a_guest_has_its_memory_in_the_file_and_no_network(tmp_path: Path) -> None:
    disk = built(tmp_path / "disk")
    guest = CollectedGuest(
        "web-1", tmp_path / "ram", tmp_path, 256, "tcg", disk=disk, work="web", load=7, seed=3
    )
    words = guest.command()
    backend = next(word for word in words if word.startswith("memory-backend-file"))
    assert f"mem-path={tmp_path / 'ram'}" in backend
    assert "share=on" in backend
    assert "size=256M" in backend
    assert words[words.index("-nic") + 1] == "none"
    append = words[words.index("-append") + 1].split()
    assert {"difffs.work=web", "difffs.load=7", "difffs.seed=3"} <= set(append)
    assert "nokaslr" not in append
    drive = words[words.index("-drive") + 1]
    assert "snapshot=on" in drive, "clones share a disk"


def test_a_guest_that_ends_or_fails_is_noticed(tmp_path: Path) -> None:
    guest = CollectedGuest("a", tmp_path / "ram", tmp_path, disk=built(tmp_path / "disk"))
    guest.console.write_text("DIFFFS-GUEST started name=a\nDIFFFS-GUEST round name=a number=2\n")
    assert guest.rounds() == 1
    with pytest.raises(GuestError, match="has ended"):
        guest.check()
    guest.console.write_text("login: \nDIFFFS-GUEST failed name=a reason=no-such-work\n")
    with pytest.raises(GuestError, match="no-such-work"):
        guest.check()


def test_paths_that_qemu_would_misread_are_refused(tmp_path: Path) -> None:
    guest = CollectedGuest("a", tmp_path / "b,c", tmp_path, disk=built(tmp_path / "disk"))
    with pytest.raises(ValueError, match="comma"):
        guest.command()
