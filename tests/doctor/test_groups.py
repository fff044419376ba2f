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
    assert found(groups.others, host).state == "limited"


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


OTHERS = {
    **VERSION_2,
    "/proc/meminfo": "MemTotal:         481032 kB\nMemFree:           68188 kB\n",
    "/sys/fs/cgroup/system.slice/cgroup.events": "populated 1\nfrozen 0\n",
    "/sys/fs/cgroup/system.slice/memory.max": f"{300 << 20}\n",
    "/sys/fs/cgroup/user.slice/cgroup.events": "populated 0\nfrozen 0\n",
    "/sys/fs/cgroup/user.slice/memory.max": "max\n",
    "/sys/fs/cgroup/init.scope/cgroup.events": "populated 1\nfrozen 0\n",
    "/sys/fs/cgroup/init.scope/memory.max": "max\n",
    "/sys/fs/cgroup/difffs.slice/cgroup.events": "populated 1\nfrozen 0\n",
    "/sys/fs/cgroup/difffs.slice/memory.max": "max\n",
}


def test_memory_is_kept_from_all_others(tmp_path: Path) -> None:
    check = found(groups.others, made_host(tmp_path / "a", OTHERS))
    assert (check.state, check.matters_for) == ("ok", ("swap",))
    assert check.found == "169 MiB of memory are kept from system.slice"
    populated = {**OTHERS, "/sys/fs/cgroup/user.slice/cgroup.events": "populated 1\n"}
    check = found(groups.others, made_host(tmp_path / "b", populated))
    assert check.state == "limited"
    assert check.found.startswith("user.slice may take all memory")
    too_much = {**populated, "/sys/fs/cgroup/user.slice/memory.max": f"{200 << 20}\n"}
    check = found(groups.others, made_host(tmp_path / "c", too_much))
    assert check.state == "limited"
    assert "500 MiB, of 469" in check.found


def test_no_group_has_processes(tmp_path: Path) -> None:
    check = found(groups.others, made_host(tmp_path, VERSION_2))
    assert check.state == "limited"
    assert check.found.startswith("/sys/fs/cgroup may take all memory")


def test_a_program_in_the_uppermost_group(tmp_path: Path) -> None:
    files = {
        **OTHERS,
        "/sys/fs/cgroup/cgroup.procs": "2\n700\n701\n",
        "/proc/2/cmdline": "",
        "/proc/700/cmdline": "python3\0/usr/local/bin/difffs\0swapon\0/srv/swap\0",
    }
    assert found(groups.others, made_host(tmp_path / "a", files)).state == "ok"
    files["/proc/701/cmdline"] = "cat\0"
    check = found(groups.others, made_host(tmp_path / "b", files))
    assert check.found.startswith("/sys/fs/cgroup may take all memory")


def test_memory_is_kept_from_all_others_in_version_1(tmp_path: Path) -> None:
    limit = "/sys/fs/cgroup/memory/machine/memory.limit_in_bytes"
    files = {
        **VERSION_1,
        "/proc/meminfo": OTHERS["/proc/meminfo"],
        "/sys/fs/cgroup/memory/machine/cgroup.procs": "77\n",
        limit: f"{(1 << 63) - 4096}\n",
    }
    check = found(groups.others, made_host(tmp_path / "a", files))
    assert check.found.startswith("machine may take all memory")
    check = found(groups.others, made_host(tmp_path / "b", {**files, limit: f"{256 << 20}\n"}))
    assert check.found == "213 MiB of memory are kept from machine"


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
