"""Streams of the installed QEMU: rebuilt, and the memory is the guest's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from difffs.images import migration
from tests.images.migrating_guest import MigratingGuest, boot_sector
from tests.images.plain_assembly import PlainAssembly
from tests.images.reading import read_image
from tests.images.small_guest import DATA, DATA_AT, MEMORY, obstacle

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=obstacle() or ""),
]


def is_memory(assembly: PlainAssembly, raw: bytes) -> None:
    """The guest's memory is these bytes, and holds what it should."""
    assert len(raw) == MEMORY
    assert raw[DATA_AT : DATA_AT + len(DATA)] == DATA
    assert assembly.memory_bytes == raw


@pytest.mark.parametrize(
    ("machine", "capabilities", "options"),
    [
        ("q35", (), ()),
        ("pc-i440fx-2.0", (), ()),  # no configuration, no footers
        ("q35", ("compress",), ()),
        ("q35", (), ("-device", "VGA")),
    ],
    ids=["q35", "2.0", "compress", "VGA"],
)
def test_a_paused_guest(
    tmp_path: Path, machine: str, capabilities: tuple[str, ...], options: tuple[str, ...]
) -> None:
    with MigratingGuest(tmp_path, "-S", *options, machine=machine) as guest:
        if capabilities:
            guest.capabilities(*capabilities)
        data = guest.migrate()
        assembly = read_image(migration.FORMAT, data, 1 << 20)
        is_memory(assembly, guest.raw.read_bytes())
    assert assembly.names[assembly.main] in ("ram", "/objects/ram")
    assert assembly.notes == []
    if "compress" not in capabilities:
        assert assembly.literal_bytes < 200_000


def test_shared_memory_that_was_left_out_is_said_to_be(tmp_path: Path) -> None:
    with MigratingGuest(tmp_path, "-S") as guest:
        guest.capabilities("x-ignore-shared")
        assembly = read_image(migration.FORMAT, guest.migrate())
    assert assembly.facts["capabilities"] == ["x-ignore-shared"]
    [note] = assembly.notes
    assert "no pages of ram" in note


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img")
@pytest.mark.parametrize("what", ["disk", "bitmaps"])
def test_disks_and_their_bitmaps_between_the_parts_of_memory(tmp_path: Path, what: str) -> None:
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "4M"], check=True)
    node = f"driver=qcow2,node-name=disk,file.driver=file,file.filename={disk}"
    drive = ("-blockdev", node, "-device", "virtio-blk-pci,drive=disk")
    with MigratingGuest(tmp_path / "guest", "-S", *drive) as guest:
        if what == "bitmaps":
            guest.command("block-dirty-bitmap-add", node="disk", name="bitmap")
            guest.capabilities("dirty-bitmaps")
            data = guest.migrate()
        else:
            data = guest.migrate(blk=True)
        is_memory(read_image(migration.FORMAT, data, 1 << 20), guest.raw.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "capabilities"),
    [("q35", ()), ("q35", ("compress",)), ("pc-i440fx-2.0", ())],
    ids=["q35", "compress", "2.0"],
)
def test_a_guest_that_writes_meanwhile(
    tmp_path: Path, machine: str, capabilities: tuple[str, ...]
) -> None:
    """Pages come several times, with and without their block's name. What the memory must be is
    what QEMU makes of the stream: its emulation loses the last writes of a guest that runs."""
    disk = tmp_path / "disk"
    boot_sector(disk)
    drive = (
        *("-drive", f"file={disk},format=raw,if=none,id=disk,snapshot=on"),
        *("-device", "ide-hd,drive=disk"),
    )
    with MigratingGuest(tmp_path / "source", *drive, machine=machine) as guest:
        guest.capabilities("events", *capabilities)
        guest.command("migrate-set-parameters", max_bandwidth=3_000_000, downtime_limit=1)
        path = tmp_path / "stream"
        guest.command("migrate", uri=f"exec:cat > {path}")
        guest.wait(rounds=3)
        guest.command("migrate-set-parameters", max_bandwidth=1 << 30, downtime_limit=2000)
        guest.wait()
        data = path.read_bytes()
    assembly = read_image(migration.FORMAT, data, 1 << 20)
    with MigratingGuest(
        tmp_path / "target", "-S", "-incoming", "defer", *drive, machine=machine
    ) as guest:
        if capabilities:
            guest.capabilities(*capabilities)
        guest.take_in(data)
        is_memory(assembly, guest.raw.read_bytes())
