"""Snapshots that the installed QEMU makes by savevm."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from difffs.images import qcow2
from tests.images.qcow2_builder import assembled
from tests.images.small_guest import DATA, DATA_AT, PausedGuest, obstacle

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img"),
]

DISKS = {
    "as it is": "compat=1.1",
    "version 2": "compat=0.10",
    "small clusters": "cluster_size=512",
    "large clusters": "cluster_size=2M",
    "extended L2": "extended_l2=on,cluster_size=128k",
    "wide refcounts": "refcount_bits=64,lazy_refcounts=on",
}


def save(guest: PausedGuest, name: str) -> bytes:
    """Has a snapshot made; returns the memory."""
    said = guest.command("human-monitor-command", **{"command-line": f"savevm {name}"})
    assert said == ""
    return guest.raw.read_bytes()


def run_shortly(guest: PausedGuest) -> None:
    guest.command("cont")
    time.sleep(0.3)
    guest.command("stop")


def disk(folder: Path, options: str) -> tuple[Path, tuple[str, str]]:
    """A disk with some data, and how QEMU is told of it."""
    path = folder / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "3M"], check=True
    )
    subprocess.run(
        ["qemu-io", "-c", "write -P 7 64k 300k", path], check=True, stdout=subprocess.DEVNULL
    )
    return path, ("-drive", f"if=none,id=disk,file={path},format=qcow2")


@pytest.mark.parametrize("options", DISKS.values(), ids=DISKS)
def test_a_snapshot(tmp_path: Path, options: str) -> None:
    path, drive = disk(tmp_path, options)
    with PausedGuest(tmp_path, *drive) as guest:
        raw = save(guest, "one")
    image = path.read_bytes()
    assembly = assembled(qcow2.FORMAT, image)
    assert assembly.file == image
    assert assembly.memory_bytes == raw
    assert raw[DATA_AT : DATA_AT + len(DATA)] == DATA
    assert assembly.facts["snapshot"] == "one"
    assert assembly.notes == []


def test_several_snapshots(tmp_path: Path) -> None:
    path, drive = disk(tmp_path, "compat=1.1")
    with PausedGuest(tmp_path, *drive) as guest:
        first = save(guest, "one")
        run_shortly(guest)
        save(guest, "two")
        run_shortly(guest)
        last = save(guest, "three")
    assert last != first
    image = path.read_bytes()
    assembly = assembled(qcow2.FORMAT, image)
    assert assembly.file == image
    assert assembly.memory_bytes == last
    assert assembly.facts["snapshots"] == ["one", "two", "three"]
    assert assembly.notes == []
    # The next one takes the place of one that was deleted.
    subprocess.run(["qemu-img", "snapshot", "-d", "two", path], check=True)
    subprocess.run(["qemu-img", "snapshot", "-c", "disk only", path], check=True)
    image = path.read_bytes()
    assembly = assembled(qcow2.FORMAT, image)
    assert assembly.file == image
    assert assembly.memory_bytes == last
    assert assembly.facts["snapshots"] == ["one", "three"]
