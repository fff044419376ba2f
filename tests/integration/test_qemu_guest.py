"""Real Linux guests whose RAM is a file in a real mount, made and checked through the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trial import guest
from trial.guest import Guest

DIFFFS = (sys.executable, "-m", "difffs")
MEBIBYTES = 128

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


def difffs(*words: str | Path, status: int = 0) -> str:
    """Run a difffs command, expect its exit status and return its stdout."""
    command = [*DIFFFS, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == status, f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session", autouse=True)
def built_guest() -> None:
    """Build the guest; skip where that or a boot is not possible."""
    built = subprocess.run(
        [guest.CHECKOUT / "scripts" / "make-guest"], check=False, capture_output=True, text=True
    )
    if built.returncode != 0:
        pytest.skip(f"no guest: {built.stderr.strip().splitlines()[-1]}")
    if (reason := guest.obstacle()) is not None:
        pytest.skip(reason)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse that this user may open")


class Mounted:
    """A store that is mounted; ``remount`` unmounts, checks and mounts it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.mountpoint = folder / "mount"
        self.mountpoint.mkdir()
        difffs("mount", self.store, self.mountpoint)

    def unmount(self) -> None:
        """Unmount and check every invariant."""
        difffs("umount", self.mountpoint)
        assert not self.mountpoint.is_mount()
        difffs("check", self.store)

    def remount(self) -> None:
        """Unmount, check, mount."""
        self.unmount()
        difffs("mount", self.store, self.mountpoint)

    def statistics(self) -> dict[str, Any]:
        """What ``difffs stats --json`` says of the mount, everything written committed before."""
        for path in self.mountpoint.iterdir():
            descriptor = os.open(path, os.O_RDWR)
            os.fsync(descriptor)
            os.close(descriptor)
        found: dict[str, Any] = json.loads(difffs("stats", "--json", self.mountpoint))
        return found


@pytest.fixture
def mounted() -> Iterator[Mounted]:
    """A new store in a folder with a short name (sockets), on tmpfs where there is one; mounted."""
    base = Path("/dev/shm")
    roomy = os.access(base, os.W_OK) and shutil.disk_usage(base).free > 1 << 30
    with tempfile.TemporaryDirectory(prefix="difffs-", dir=base if roomy else None) as name:
        one = Mounted(Path(name))
        try:
            yield one
        finally:
            if one.mountpoint.is_mount():
                subprocess.run([*DIFFFS, "umount", one.mountpoint], check=False, timeout=180)
            if one.mountpoint.is_mount():
                subprocess.run(["umount", "--lazy", one.mountpoint], check=False)


def test_two_guests_work_share_pages_and_survive_a_remount(mounted: Mounted) -> None:
    names = ("vm1", "vm2")
    memories = {name: mounted.mountpoint / f"{name}.mem" for name in names}
    guests = [
        Guest(name, memories[name], mounted.folder, mebibytes=160, seed=seed)
        for seed, name in enumerate(names, start=1)
    ]
    with guests[0], guests[1]:
        done = [one.wait_until_off(180) for one in guests]
    assert [event.values["ok"] for event in done] == ["1", "1"]
    contents = {name: path.read_bytes() for name, path in memories.items()}
    assert all(len(content) == 160 << 20 for content in contents.values())

    statistics = mounted.statistics()
    pages = statistics["pages"]
    assert 0 < pages["total"] <= 2 * (160 << 20) // 4096  # never written: not counted
    assert sum(count for route, count in pages.items() if route != "total") == pages["total"]
    assert pages["identical"] > 1000, "two guests of one kernel have much in common"
    assert pages["patch"] > 0
    assert statistics["factor"] > 2

    mounted.remount()
    for name, path in memories.items():
        assert path.read_bytes() == contents[name], f"{name} changed by unmounting"
    mounted.unmount()


def test_a_suspended_guest_goes_on_after_a_remount(mounted: Mounted) -> None:
    """Everything that the guest keeps in memory is verified by the guest at every tick."""
    memory = mounted.mountpoint / "vm.mem"
    state = mounted.folder / "state"
    arguments: dict[str, Any] = {
        "name": "vm",
        "memory": memory,
        "folder": mounted.folder,
        "mebibytes": MEBIBYTES,
        "work": "archive,noise",
        "end": "count",
    }
    with Guest(**arguments) as first:
        first.wait_for("tick")
        first.suspend(state)
        seen = len(first.events())
        last = int(first.events()[-1].values["count"])
    mounted.remount()
    with Guest(**arguments, incoming=True) as second:
        second.resume(state)
        tick = second.wait_for("tick", 60, start=seen)
        assert tick.values == {"name": "vm", "count": str(last + 1), "ok": "1"}
        second.wait_for("tick", 60, start=seen + 1)
    mounted.unmount()


FREED = 6_000
"""Pages that must leave the store at least, of the 15,360 that the guest fills and drops: some of
them find another use at once."""


def test_pages_that_a_guest_frees_leave_the_store(mounted: Mounted) -> None:
    """The balloon reports free pages, QEMU punches them out of the file, the store drops them."""
    memory = mounted.mountpoint / "vm.mem"
    with Guest(
        "vm", memory, mounted.folder, mebibytes=256, work="fill,drop,noise", end="stay"
    ) as one:
        assert one.wait_for("ready").values["balloon"] == "1"
        one.wait_for("step")
        one.monitor.command("stop")
        assert [event.values.get("work") for event in one.events()[1:]] == ["fill"]
        # what the guest has filled may still be in the kernel, which would not count
        subprocess.run(["sync", "-f", mounted.mountpoint], check=True)
        filled = mounted.statistics()
        one.monitor.command("cont")
        one.wait_for("done")
        for _ in range(60):  # the guest reports two seconds after it has freed, in portions
            time.sleep(0.5)
            dropped = mounted.statistics()
            if dropped["pages"]["total"] < filled["pages"]["total"] - FREED:
                break
        assert dropped["pages"]["total"] < filled["pages"]["total"] - FREED
        assert one.running
    mounted.unmount()
