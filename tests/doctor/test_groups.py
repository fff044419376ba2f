"""Control groups of both versions, own and not one's own."""

import os
from pathlib import Path

import pytest

from difffs.cgroup.finding import MemoryGroup, memory_group
from difffs.doctor import groups
from tests.doctor.made_host import CGROUP1, CGROUP2, ROOT, USER, found, made_host

OWN = "/sys/fs/cgroup/a/b"
VERSION_2 = {
    "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    f"{OWN}/cgroup.controllers": "memory pids\n",
    f"{OWN}/cgroup.procs": "1\n",
    f"{OWN}/memory.reclaim": "",
    f"{OWN}/memory.swap.max": "max\n",
    f"{OWN}/memory.pressure": "some avg10=0.00\n",
}
VERSION_1 = {
    "/proc/self/mountinfo": CGROUP2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified") + CGROUP1,
    "/proc/self/cgroup": "4:cpu:/\n3:memory:/own\n0::/\n",
    "/sys/fs/cgroup/memory/own/memory.force_empty": "",
    "/sys/fs/cgroup/memory/own/cgroup.procs": "",
}


def test_version_2(tmp_path: Path) -> None:
    host = made_host(tmp_path, VERSION_2)
    assert memory_group(host) == MemoryGroup(2, "/sys/fs/cgroup", OWN)
    for probe in (groups.memory, groups.delegation, groups.reclaim, groups.swap_limit):
        assert found(probe, host).state == "ok", probe.name


def test_version_1(tmp_path: Path) -> None:
    host = made_host(tmp_path, VERSION_1)
    own = "/sys/fs/cgroup/memory/own"
    assert memory_group(host) == MemoryGroup(1, "/sys/fs/cgroup/memory", own)
    for probe in (groups.memory, groups.delegation, groups.reclaim, groups.swap_limit):
        assert found(probe, host).state == "ok", probe.name


def test_no_memory_controller(tmp_path: Path) -> None:
    host = made_host(tmp_path / "a", {"/sys/fs/cgroup/cgroup.controllers": "cpu pids\n"})
    assert found(groups.memory, host).state == "missing"
    assert "cgroup_enable=memory" in found(groups.memory, host).remedy
    host = made_host(tmp_path / "b", {"/proc/self/mountinfo": ""})
    for probe in (groups.memory, groups.delegation, groups.reclaim):
        assert found(probe, host).state == "missing"


def test_a_group_above_what_is_mounted(tmp_path: Path) -> None:
    host = made_host(tmp_path, {**VERSION_2, "/proc/self/cgroup": "0::/../../other\n"})
    group = memory_group(host)
    assert group is not None
    assert group.folder == group.hierarchy == "/sys/fs/cgroup"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_not_the_own_group(tmp_path: Path) -> None:
    host = made_host(tmp_path, VERSION_2, base=USER)
    assert found(groups.delegation, host).state == "ok"
    host.path(OWN).chmod(0o555)
    assert "Delegate=yes" in found(groups.delegation, host).remedy


def test_a_group_without_the_controller(tmp_path: Path) -> None:
    files = {**VERSION_2, f"{OWN}/cgroup.controllers": "pids\n"}
    check = found(groups.delegation, made_host(tmp_path, files, base=USER))
    assert check.state == "limited"
    assert "has not been given the memory controller" in check.found


def test_nothing_may_be_swapped(tmp_path: Path) -> None:
    files = {**VERSION_2, f"{OWN}/memory.swap.max": "0\n"}
    check = found(groups.swap_limit, made_host(tmp_path, files))
    assert check.state == "limited"
    assert check.matters_for == ("swap",)


def test_reclaim_of_an_older_kernel(tmp_path: Path) -> None:
    files = {path: text for path, text in VERSION_2.items() if "reclaim" not in path}
    check = found(groups.reclaim, made_host(tmp_path, files))
    assert check.state == "off"
    assert "5.19" in check.remedy


def test_pressure(tmp_path: Path) -> None:
    check = found(groups.pressure, made_host(tmp_path / "a", VERSION_2))
    assert check.state == "off"
    assert "psi=1" in check.remedy
    files = {**VERSION_2, "/proc/pressure/memory": "some avg10=0.00\n"}
    check = found(groups.pressure, made_host(tmp_path / "b", files))
    assert check.state == "ok"
    assert "of groups" in check.found


def test_nonsense_is_unknown(tmp_path: Path) -> None:
    for path in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        host = made_host(tmp_path / path[-3:], {**ROOT, path: "nonsense\n"})
        assert found(groups.memory, host).state == "unknown"
