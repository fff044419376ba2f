"""Swap: tools, loop devices, and what is swapped to before a store."""

from pathlib import Path

import pytest

from difffs.doctor import swapping
from difffs.doctor.check import Probe
from tests.doctor.made_host import ROOT, found, made_host

HEADING = ROOT["/proc/swaps"]
MOUNT = "70 20 0:50 / /mnt/pages rw - fuse.difffs /srv/pages rw,user_id=0\n"
TOOLS = {"/sbin/losetup": "", "/sbin/mkswap": "", "/sbin/swapon": ""}


def area(device: str, priority: int) -> str:
    return f"{device}                               partition\t4194300\t\t0\t\t{priority}\n"


def test_tools(tmp_path: Path) -> None:
    assert found(swapping.tools, made_host(tmp_path / "a", programs=TOOLS)).state == "ok"
    check = found(swapping.tools, made_host(tmp_path / "b", programs={"/sbin/losetup": ""}))
    assert check.state == "missing"
    assert check.remedy == "apt install mount util-linux"


def test_kernel_without_swap(tmp_path: Path) -> None:
    host = made_host(tmp_path)
    assert found(swapping.kernel, host).state == "ok"
    host.path("/proc/swaps").unlink()
    assert found(swapping.kernel, host).state == "missing"
    assert found(swapping.other_areas, host).state == "unknown"


def test_loop_devices(tmp_path: Path) -> None:
    assert found(swapping.loop, made_host(tmp_path / "a")).state == "missing"
    control = {"/dev/loop-control": ""}
    assert found(swapping.loop, made_host(tmp_path / "b", control)).state == "off"
    devices = {
        **control,
        "/sys/block/loop0/loop/backing_file": "/a\n",
        "/sys/block/loop1/size": "0\n",
    }
    check = found(swapping.loop, made_host(tmp_path / "c", devices))
    assert check.state == "limited"
    assert "loop0" in check.found
    check = found(swapping.loop, made_host(tmp_path / "d", {**devices, "/dev/loop0": ""}))
    assert check.state == "ok"
    assert "1 free of 2" in check.found


@pytest.mark.parametrize(("text", "state"), [(None, "ok"), ("N\n", "ok"), ("Y\n", "limited")])
def test_zswap(tmp_path: Path, text: str | None, state: str) -> None:
    files = {} if text is None else {"/sys/module/zswap/parameters/enabled": text}
    assert found(swapping.zswap, made_host(tmp_path, files)).state == state


def test_other_areas(tmp_path: Path) -> None:
    host = made_host(tmp_path)
    assert found(swapping.other_areas, host).state == "ok"

    def swaps(*areas: str) -> None:
        host.path("/proc/swaps").write_text(HEADING + "".join(areas))

    swaps(area("/dev/zram0", 100), area("/dev/sda2", -2))
    check = found(swapping.other_areas, host)
    assert check.state == "limited"
    assert check.remedy == "difffs swapon --priority 101 STORE"
    swaps(area("/dev/sda2", -2))
    assert found(swapping.other_areas, host).remedy == "difffs swapon --priority 1 STORE"
    swaps(area("/dev/a", 32767), area("/dev/b", 5))
    assert found(swapping.other_areas, host).remedy == "swapoff /dev/a"


def test_areas_of_difffs_are_no_others(tmp_path: Path) -> None:
    files = {
        "/proc/self/mountinfo": MOUNT,
        "/sys/block/loop3/loop/backing_file": "/mnt/pages/swap\n",
        "/proc/swaps": HEADING + area("/dev/loop3", 10) + area("/dev/sda2", -2),
    }
    host = made_host(tmp_path, files)
    assert found(swapping.other_areas, host).state == "ok"
    host.path("/proc/swaps").write_text(HEADING + area("/dev/loop3", 1) + area("/dev/sda2", 1))
    check = found(swapping.other_areas, host)
    assert check.remedy == "difffs swapoff STORE; difffs swapon --priority 2 STORE"
    host.path("/proc/swaps").write_text(HEADING + area("/dev/loop3", 1))
    assert found(swapping.other_areas, host).state == "ok"


@pytest.mark.parametrize(
    ("probe", "setting", "good", "bad"),
    [
        (swapping.swappiness, "swappiness", "60", "0"),
        (swapping.read_ahead, "page-cluster", "3", "0"),
        (swapping.panic_on_oom, "panic_on_oom", "0", "2"),
    ],
)
def test_settings(tmp_path: Path, probe: Probe, setting: str, good: str, bad: str) -> None:
    path = f"/proc/sys/vm/{setting}"
    assert found(probe, made_host(tmp_path, {path: good})).state == "ok"
    check = found(probe, made_host(tmp_path, {path: bad}))
    assert check.state == "limited"
    assert check.remedy == f"sysctl vm.{setting}={good}"
    assert found(probe, made_host(tmp_path / "absent")).state == "unknown"


def test_tmpfs_without_swap(tmp_path: Path) -> None:
    release = "/proc/sys/kernel/osrelease"
    assert found(swapping.tmpfs_without_swap, made_host(tmp_path)).state == "ok"
    for text, state in (("6.4.0\n", "ok"), ("6.1.0-40-amd64\n", "off"), ("?\n", "unknown")):
        host = made_host(tmp_path, {release: text})
        assert found(swapping.tmpfs_without_swap, host).state == state
