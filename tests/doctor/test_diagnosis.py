"""All probes together: on this host, and on one that lacks everything."""

import re
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.doctor.check import USES, Check, Use
from difffs.doctor.diagnosis import SUBJECTS, diagnose, is_finding
from difffs.doctor.host import Host
from tests.doctor.made_host import ROOT, made_host

PROBES = [probe for _, probes in SUBJECTS for probe in probes]


def every(host: Host, *uses: Use) -> list[Check]:
    return [check for subject in diagnose(host, uses or USES) for check in subject.checks]


def test_names() -> None:
    counted = Counter(probe.name for probe in PROBES)
    assert max(counted.values()) == 1
    for name in counted:
        assert re.fullmatch(r"[a-z]+(\.[a-z0-9_-]+)+", name), name


def test_this_host() -> None:
    checks = every(Host())
    assert [check.name for check in checks] == [probe.name for probe in PROBES]
    for check in checks:
        if check.state in ("missing", "limited"):
            assert check.remedy, check
    assert not [check for check in checks if "no sense" in check.found]


def test_an_empty_host(tmp_path: Path) -> None:
    host = Host(tmp_path, {}, package_version=lambda _name: None, checkout=tmp_path)
    checks = every(host)
    assert [check.name for check in checks] == [probe.name for probe in PROBES]
    assert any(is_finding(check, USES) for check in checks)
    assert list(tmp_path.iterdir()) == [], "nothing is made"


def test_nothing_is_changed(tmp_path: Path) -> None:
    host = made_host(tmp_path, {"/dev/fuse": "", "/dev/kvm": "", "/dev/loop-control": ""})

    def tree() -> dict[Path, tuple[int, int]]:
        return {
            path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in tmp_path.rglob("*")
        }

    before = tree()
    every(host)
    assert tree() == before


@pytest.mark.parametrize("use", USES)
def test_one_use(tmp_path: Path, use: Use) -> None:
    checks = every(made_host(tmp_path), use)
    assert checks
    assert all(use in check.matters_for for check in checks)
    names = {probe.name for probe in PROBES if use in probe.matters_for}
    assert {check.name for check in checks} == names


TEXTS = st.one_of(
    st.sampled_from(["", "0", "1", "-1", "Y", "max", "0::/", "a b c d", "[never]", "\n", "8" * 30]),
    st.text(max_size=40),
    st.binary(max_size=40).map(lambda data: data.decode(errors="surrogateescape")),
)
READ = [
    *ROOT,
    "/proc/filesystems",
    "/proc/pressure/memory",
    "/proc/sys/fs/fuse/max_pages_limit",
    "/proc/sys/fs/fuse/max_request_timeout",
    "/proc/sys/vm/swappiness",
    "/proc/sys/vm/page-cluster",
    "/sys/block/zram0/disksize",
    "/sys/class/bdi/0:50/max_ratio",
    "/sys/class/bdi/0:50/strict_limit",
    "/sys/fs/cgroup/a/b/cgroup.controllers",
    "/sys/fs/cgroup/a/b/memory.swap.max",
    "/sys/fs/selinux/booleans/virt_use_fusefs",
    "/sys/fs/selinux/enforce",
    "/sys/kernel/mm/ksm/run",
    "/sys/module/zswap/parameters/enabled",
    "/etc/fuse.conf",
    "/etc/libvirt/qemu.conf",
]


@settings(max_examples=12, deadline=None)
@given(st.dictionaries(st.sampled_from(READ), TEXTS, min_size=1))
def test_whatever_the_host_says_is_survived(files: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        host = made_host(Path(folder))
        for path, text in files.items():
            file = host.path(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode(errors="replace"))
        for check in every(host):
            assert "\n" not in check.found + check.remedy
            if check.state in ("missing", "limited"):
                assert check.remedy, check
