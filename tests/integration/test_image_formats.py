"""Images of real guests through the store: QEMU goes on from what is exported, and volatility3
finds its way in what is mounted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from trial import guest
from trial.guest import Guest

from tests.integration.harness import difffs, folder_in_memory, unmount_command

MEBIBYTES = 128

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def built_guest() -> None:
    """Build the guest; skip where that or a boot is not possible."""
    built = subprocess.run(
        [guest.CHECKOUT / "scripts" / "make-guest"], check=False, capture_output=True, text=True
    )
    if built.returncode != 0:
        pytest.skip(f"no guest: {built.stderr.strip().splitlines()[-1]}")
    if (reason := guest.obstacle()) is not None:
        pytest.skip(reason)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, gone afterwards."""
    with folder_in_memory() as path:
        yield path


def new_guest(folder: Path, name: str, *, incoming: bool = False) -> Guest:
    """A guest that verifies its memory at every tick."""
    return Guest(
        name="vm",
        memory=folder / f"{name}.mem",
        folder=folder,
        mebibytes=MEBIBYTES,
        work="archive,noise",
        end="count",
        incoming=incoming,
    )


@pytest.mark.minutes  # QEMU takes in what a smaller guest wrote in images/test_migration_of_qemu.py
def test_a_guest_goes_on_from_a_migration_stream_that_was_in_the_store(folder: Path) -> None:
    store, stream, exported = folder / "store", folder / "stream", folder / "exported"
    with new_guest(folder, "first") as first:
        first.wait_for("tick")
        first.save(stream)
        seen = len(first.events())
        last = int(first.events()[-1].values["count"])
        memory = first.memory.read_bytes()
    difffs("import", store, stream, "--as", "vm")
    difffs("export", store, "vm", exported)
    assert exported.read_bytes() == stream.read_bytes()
    difffs("export", store, "vm.ram", folder / "ram")
    assert (folder / "ram").read_bytes() == memory
    with new_guest(folder, "second", incoming=True) as second:
        second.load(exported)
        tick = second.wait_for("tick", 60, start=seen)
        assert tick.values == {"name": "vm", "count": str(last + 1), "ok": "1"}
    difffs("check", store)


def test_volatility_finds_the_kernel_in_a_mounted_dump_and_in_its_memory(folder: Path) -> None:
    volatility = shutil.which("vol", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if volatility is None:
        pytest.skip("no volatility3 (pip install volatility3)")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse that this user may open")
    dump, store, mountpoint = folder / "dump", folder / "store", folder / "mount"
    with new_guest(folder, "dumped") as dumped:
        dumped.wait_for("tick")
        dumped.monitor.command("stop")
        dumped.monitor.command("dump-guest-memory", paging=False, protocol=f"file:{dump}")
    difffs("import", store, dump, "--as", "vm.elf")
    mountpoint.mkdir()
    difffs("mount", store, mountpoint)
    try:
        built = json.loads((guest.cache_folder() / "guest" / "guest.json").read_text())
        kernel = built["kernel"].removeprefix("linux-image-")
        for name in ("vm.elf", "vm.elf.ram"):
            found = subprocess.run(
                [volatility, "-q", "--offline", "-f", mountpoint / name, "banners.Banners"],
                check=True,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert f"Linux version {kernel}" in found.stdout, name
        difffs("umount", mountpoint)
        difffs("check", store)
    finally:
        if mountpoint.is_mount():
            subprocess.run(unmount_command(mountpoint, lazy=True), check=False)
