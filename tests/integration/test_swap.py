"""Swapping to a store: a process that needs more memory than it may have, and every way back."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from trial import cgroup, swap
from trial.held_hog import HeldHog

from difffs.mount.live import mount_at, mountpoints_of
from tests.integration.harness import DIFFFS, Mounted, complaint, difffs, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("able_to_swap")]

HIGHEST = "32767"


@pytest.fixture
def store(store_for_swap: Path) -> Path:
    """A place for a store that is swapped to."""
    return store_for_swap


def statistics(store: Path) -> dict[str, Any]:
    """Return the statistics of the store, wherever it is mounted."""
    found: dict[str, Any] = json.loads(difffs("stats", store, "--json").stdout)
    return found


def loop_devices(mountpoint: str) -> list[str]:
    """Return the loop devices over files in a mount."""
    done = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if mountpoint in line]


def test_on_and_off(store: Path) -> None:
    area = json.loads(difffs("swapon", store, "--size", "64M", "--priority", "7", "--json").stdout)
    assert area["size"] == 64 << 20
    line = next(
        line for line in Path("/proc/swaps").read_text().splitlines() if area["device"] in line
    )
    assert line.split()[2:] == [str((64 << 10) - 4), "0", "7"]
    assert (Path("/sys/block") / Path(area["device"]).name / "loop/dio").read_text() == "1\n"
    settings = {entry["setting"]: entry for entry in statistics(store)["kernel_settings"]}
    for setting in ("mlockall", "oom_score_adj", "PR_SET_IO_FLUSHER"):
        assert setting in settings
    assert f"difffs swapoff {store}" in complaint("swapon", store, status=5)
    line = complaint("umount", area["mountpoint"], status=12)
    assert area["device"] in line
    assert "difffs swapoff" in line
    difffs("swapoff", store)
    assert loop_devices(area["mountpoint"]) == []
    assert mount_at(area["mountpoint"]) is None
    assert not Path(area["mountpoint"]).exists()
    assert "not swapped to" in complaint("swapoff", store, status=10)
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


def test_who_may_take_the_daemons_memory_is_told(store: Path) -> None:
    told = subprocess.run([*DIFFFS, "doctor", "--json"], capture_output=True, check=False)
    checks = {check["name"]: check for check in json.loads(told.stdout)["checks"]}
    others = checks["cgroup.others"]
    warning = f"{others['found']}; {others['remedy']}"
    done = difffs("swapon", store, "--size", "16M", "--json")
    difffs("swapoff", store)
    is_told = others["state"] == "limited"
    assert (warning in json.loads(done.stdout)["warnings"]) == is_told
    assert (f"difffs: {warning}\n" in done.stderr) == is_told
    real_time = subprocess.run(
        ["chrt", "--rr", "1", *DIFFFS, "swapon", store, "--size", "16M"],
        capture_output=True,
        text=True,
        check=False,
    )
    if real_time.returncode != 0:
        pytest.skip(f"no real-time scheduling here: {real_time.stderr}")
    difffs("swapoff", store)
    assert others["state"] != "limited" or others["remedy"] not in real_time.stderr


def test_a_process_larger_than_its_memory(store: Path) -> None:
    reason = cgroup.obstacle()
    if reason is not None:
        pytest.skip(reason)
    area = json.loads(
        difffs("swapon", store, "--size", "512M", "--priority", HIGHEST, "--json").stdout
    )
    name = f"difffs-test-{os.getpid()}"
    with cgroup.MemoryCgroup(name, 48 << 20) as group, HeldHog(group, 128, rounds=2) as hog:
        assert hog.verified() == 2 * (128 << 20) // 4096
        assert swap.used_of(area["device"]) > 64 << 20
        full = statistics(store)
        assert full["pages"]["total"] > (64 << 20) // 4096
        assert full["factor"] > 1.5
        assert hog.finish() == (128 << 20) // 4096
    # The kernel discards what the process had, and the store shrinks.
    wait_until(lambda: statistics(store)["pages"]["total"] < full["pages"]["total"] // 4)
    difffs("swapoff", store)
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]
    log = (store / "log").read_text()
    assert "ERROR" not in log
    assert "WARNING" not in log


def test_off_brings_everything_back(store: Path) -> None:
    reason = cgroup.obstacle()
    if reason is not None:
        pytest.skip(reason)
    difffs("swapon", store, "--size", "256M", "--priority", HIGHEST)
    name = f"difffs-back-{os.getpid()}"
    with cgroup.MemoryCgroup(name, 40 << 20) as group, HeldHog(group, 64, rounds=1) as hog:
        hog.verified()
        # Swapping off needs room for what comes back.
        for limit in ("memory.limit_in_bytes", "memory.max"):
            if (group.folder / limit).exists():
                (group.folder / limit).write_text(str(512 << 20))
        difffs("swapoff", store)
        assert hog.finish() == (64 << 20) // 4096
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


def test_on_a_store_that_is_mounted(mount: Mounted) -> None:
    (mount.path / "guest").write_bytes(b"memory")
    assert "mlockall" not in difffs("stats", mount.store, "--json").stdout
    done = difffs("swapon", mount.store, "--size", "32M", "--json")
    assert json.loads(done.stdout)["volume"] == str(mount.path / "swap")
    settings = {entry["setting"]: entry for entry in statistics(mount.store)["kernel_settings"]}
    assert settings["mlockall"]["applied"]
    status = Path(f"/proc/{mount.process()}/status").read_text()
    locked = next(line for line in status.splitlines() if line.startswith("VmLck:"))
    assert int(locked.split()[1]) > 0
    assert "in use" in complaint("umount", mount.path, status=12)
    difffs("swapoff", mount.store)
    assert sorted(path.name for path in mount.path.iterdir()) == ["guest"]
    assert "not swapped to" in complaint("swapoff", mount.store, status=10)


def test_signals_do_not_take_swap_away(store: Path) -> None:
    area = json.loads(difffs("swapon", store, "--size", "16M", "--json").stdout)
    note = (store / "lock").read_text()
    process = int(note.split()[1])

    def told(count: int) -> bool:
        os.kill(process, signal.SIGTERM)  # as often as anybody likes
        return (store / "log").read_text().count("swapoff") >= count

    for count in (1, 2):
        wait_until(lambda count=count: told(count))
    assert mount_at(area["mountpoint"]) is not None
    assert statistics(store)["pages"]["total"] > 0
    difffs("swapoff", store)
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


def test_a_store_that_could_be_swapped_out_is_refused(store: Path) -> None:
    folder = store.parent / "swappable"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    try:
        assert "noswap" in complaint("swapon", folder / "store", status=2)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_step_that_fails_undoes_the_others(store: Path) -> None:
    """The volume's name is taken by a directory."""
    folder = store.parent / "mount"
    folder.mkdir()
    difffs("mount", store, folder)
    (folder / "swap").mkdir()
    difffs("umount", folder)
    assert "swap" in complaint("swapon", store, status=2)
    assert mountpoints_of(store) == []
    assert list(Path("/run/difffs").glob("store-*")) == []
    assert json.loads(difffs("check", store, "--json").stdout)["clean"]


def test_arguments(store: Path) -> None:
    assert "too small" in complaint("swapon", store, "--size", "4K", status=2)
    assert "no size" in complaint("swapon", store, "--size", "lots", status=2)
    assert "32767" in complaint("swapon", store, "--priority", "40000", status=2)
    assert "unknown mount option" in complaint("swapon", store, "-o", "x=y", status=2)
    assert not store.exists()
