"""Looking at a machine: files, programs that fail or hang, packages."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from difffs.doctor.host import Host, run_briefly
from difffs.errors import EnvironmentProblem
from tests.doctor.made_host import CGROUP2, USER, made_host


def test_files(tmp_path: Path) -> None:
    host = made_host(tmp_path, {"/a/b": " text \n", "/a/c": ""})
    assert host.text("/a/b") == "text"
    assert host.names("/a") == ["b", "c"]
    assert host.names("/absent") == []
    assert host.text_or_none("/absent") is None
    assert host.text_or_none("/a/b/c") is None
    with pytest.raises(IsADirectoryError):
        host.text_or_none("/a")
    assert host.kernel == (6, 12)
    assert [mount.kind for mount in host.mounts] == [CGROUP2.split()[8]]
    assert not os.path.exists(host.path("/absent"))


def test_this_process(tmp_path: Path) -> None:
    root, user = made_host(tmp_path / "a"), made_host(tmp_path / "b", base=USER)
    assert root.is_root
    assert root.has_capability("CAP_SYS_RESOURCE")
    assert not user.is_root
    assert not user.has_capability("CAP_SYS_RESOURCE")
    assert not root.is_in_user_namespace
    assert made_host(tmp_path / "c", {"/proc/self/uid_map": "0 1000 1\n"}).is_in_user_namespace


def test_modules(tmp_path: Path) -> None:
    folder = "/lib/modules/6.12.117-amd64"
    host = made_host(
        tmp_path,
        {
            f"{folder}/modules.dep": "kernel/drivers/block/zram/zram.ko.xz: a.ko\n",
            f"{folder}/modules.builtin": "kernel/fs/fuse/fuse.ko\n",
            "/sys/module/loop/refcnt": "0",
        },
    )
    assert [host.has_module(name) for name in ("zram", "fuse", "loop", "btrfs", "ram")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_programs(tmp_path: Path) -> None:
    host = made_host(
        tmp_path, {"/bin/text": "no program"}, programs={"/usr/sbin/tool": 'echo "said $1 $LC_ALL"'}
    )
    assert host.program("text") is None
    assert host.program("absent") is None
    path = host.program("tool")
    assert path == str(tmp_path / "root/usr/sbin/tool"), "where only root's PATH leads"
    assert host.said_by(path, "it") == "said it C\n"


def test_programs_that_fail(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="sh exited with 3: no good"):
        run_briefly(["/bin/sh", "-c", "echo no good >&2; exit 3"], os.environ, 10)
    with pytest.raises(EnvironmentProblem, match="absent cannot be started"):
        run_briefly([str(tmp_path / "absent")], os.environ, 10)


def test_programs_that_hang_are_left_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"sh did not answer within 0\.3 s"):
        run_briefly(["/bin/sh", "-c", f"sleep 60 & echo $! > {note}; wait"], os.environ, 0.3)
    assert time.monotonic() - began < 5
    status = Path(f"/proc/{note.read_text().strip()}/status")

    def is_there() -> bool:
        with suppress(OSError):
            return "\nState:\tZ" not in status.read_text()
        return False

    # What it has started goes with it, once the machine comes to that.
    until = time.monotonic() + 20
    while is_there() and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_there()


def test_packages_and_this_host() -> None:
    host = Host()
    assert host.package_version("difffs")
    assert host.package_version("surely-not-installed") is None
    assert host.is_root == (os.geteuid() == 0)
    assert host.kernel >= (5, 0)
    assert host.said_by(sys.executable, "-c", "print(1)") == "1\n"
