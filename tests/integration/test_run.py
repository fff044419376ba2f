"""``difffs run``: programs, and a guest, on less memory than they have."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from booting.disk import CHECKOUT
from trial import guest

from difffs.cgroup.finding import memory_group
from difffs.doctor.host import Host
from difffs.mount.live import mountpoints_of
from difffs.page_cache import resident_bytes_of
from tests.integration.harness import Mounted, complaint, difffs, obstacle, wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=obstacle() or ""),
    pytest.mark.skipif(os.geteuid() != 0, reason="making control groups needs root"),
    pytest.mark.skipif(memory_group(Host()) is None, reason="no memory controller"),
]

MIB = 1 << 20
RUN = [sys.executable, "-m", "difffs", "run"]
HOLD = CHECKOUT / "scripts/booting/guest-files/hold-memory"


def groups() -> list[Path]:
    own = memory_group(Host())
    assert own is not None
    return [*Path(own.hierarchy).glob("difffs-run-*"), *Path(own.folder).glob("difffs-run-*")]


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    assert groups() == []


class Holding:
    """The program, run by ``difffs run`` until what is resident of its file is little enough."""

    def __init__(self, folder: Path, size: int, hot: int) -> None:
        self.enough = folder / "enough"
        self.report = folder / "report"
        self.program = [sys.executable, str(HOLD)]
        self.arguments = [str(size), str(hot), str(self.enough)]

    def run(self, words: list[str], file: Callable[[], Path], most: int) -> dict[str, Any]:
        """Return the report, after of the file not more than so many bytes were resident."""
        command = [*RUN, "--report", str(self.report), *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            path = file()
            wait_until(lambda: (resident_bytes_of(path) or 0) <= most, seconds=60)
            self.enough.touch()
            assert process.stdout.readline() == "verified\n"
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(self.report.read_text())
        return found


@pytest.mark.slow
@pytest.mark.parametrize("resident", ["50%", "96M"])
def test_what_is_cold_goes_to_the_store(mount: Mounted, tmp_path: Path, resident: str) -> None:
    ram = mount.path / "ram"
    holding = Holding(tmp_path, 128 * MIB, 0)
    most = (66 if resident == "50%" else 98) * MIB
    words = ["--resident", resident, "--", *holding.program, str(ram), *holding.arguments]
    found = holding.run(words, lambda: ram, most)
    assert found["exit_status"] == 0
    assert [file["mapped"] for file in found["guest_ram"]] == [128 * MIB]
    assert found["resident"]["limit"] < 128 * MIB
    memory = found["host_memory"]
    assert memory["nominal"] == 128 * MIB
    used = memory["resident"] + memory["stores"] + memory["daemons"]
    assert memory["used"] == used
    assert memory["saved"] == 128 * MIB - used
    assert found["stores"][0]["mountpoint"] == str(mount.path)


@pytest.mark.slow
def test_auto_takes_what_is_not_in_use(mount: Mounted, tmp_path: Path) -> None:
    ram = mount.path / "ram"
    holding = Holding(tmp_path, 96 * MIB, 8 * MIB)
    words = ["--", *holding.program, str(ram), *holding.arguments]
    found = holding.run(words, lambda: ram, 84 * MIB)
    assert found["rule"] == "auto"
    assert found["guest_ram"][0]["stored"] > 0


@pytest.mark.slow
def test_a_store_is_mounted_for_the_command(tmp_path: Path) -> None:
    store = tmp_path / "store"
    holding = Holding(tmp_path, 20 * MIB, 0)
    inner = shlex.join(holding.program) + ' "$DIFFFS_MOUNTPOINT/ram" ' + " ".join(holding.arguments)
    words = ["--store", str(store), "-o", "buffer=8M", "--resident", "50%", "--", "sh", "-c", inner]
    found = holding.run(words, lambda: Path(mountpoints_of(store)[0]) / "ram", 16 * MIB)
    (mounted,) = found["stores"]
    assert mounted["store"] == str(store)
    assert not Path(mounted["mountpoint"]).exists()
    listed = json.loads(difffs("ls", "--json", store).stdout)
    assert [volume["name"] for volume in listed["volumes"]] == ["ram"]
    difffs("check", store)


def test_the_exit_status_is_the_commands() -> None:
    for status in (0, 1, 3, 77):
        done = subprocess.run([*RUN, "--quiet", "--", "sh", "-c", f"exit {status}"], check=False)
        assert done.returncode == status
    killed = subprocess.run([*RUN, "--quiet", "--", "sh", "-c", "kill -KILL $$"], check=False)
    assert killed.returncode == 128 + signal.SIGKILL


def test_what_cannot_be_run_is_named(tmp_path: Path) -> None:
    assert "no such command" in complaint("run", "--", "/nowhere/at-all", status=127)
    text = tmp_path / "text"
    text.write_text("words")
    assert str(text) in complaint("run", "--", text, status=126)
    assert "--store" in complaint("run", "-o", "buffer=8M", "--", "true", status=2)


def test_standard_streams_are_the_commands() -> None:
    done = subprocess.run(
        [*RUN, "--", "cat"], input="through", capture_output=True, text=True, check=True
    )
    assert done.stdout == "through"
    assert "cat:" in done.stderr


def test_json_follows_the_commands_output() -> None:
    done = subprocess.run(
        [*RUN, "--quiet", "--json", "--", "echo", "first"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    first, _, rest = done.stdout.partition("\n")
    assert first == "first"
    found = json.loads(rest)
    assert found["command"] == ["echo", "first"]
    assert found["host_memory"] is None
    assert found["exit_status"] == 0


def started(*command: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*RUN, "--", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "USR2", "QUIT"])
def test_signals_are_passed_on(name: str) -> None:
    script = f"trap 'echo {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    process = started("sh", "-c", script)
    process.send_signal(signal.Signals[f"SIG{name}"])
    out, _ = process.communicate(timeout=20)
    assert out == f"{name}\n"
    assert process.returncode == 5


def test_sigusr1_asks_how_it_stands() -> None:
    process = started("sh", "-c", "echo ready; while :; do sleep 0.05; done")
    process.send_signal(signal.SIGUSR1)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("difffs: sh: ")
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_what_the_command_leaves_behind_is_waited_for() -> None:
    process = started("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo ready; exit 4")
    assert process.stderr is not None
    assert "go on" in process.stderr.readline()
    assert process.poll() is None
    assert len(groups()) == 1
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 4


def test_stats_show_what_is_in_memory(mount: Mounted) -> None:
    data = os.urandom(MIB) * 4
    (mount.path / "one").write_bytes(data)
    (mount.path / "two").touch()
    found = json.loads(difffs("stats", "--json", mount.path).stdout)
    volumes = {volume["name"]: volume for volume in found["volumes"]}
    assert volumes["one"]["resident"] == volumes["one"]["size"] == len(data)
    assert volumes["two"] == {"name": "two", "size": 0, "resident": 0, "stored": 0}
    host = found["host_memory"]
    assert host["nominal"] == host["resident"] == len(data)
    assert host["used"] == host["resident"] + host["stores"] + host["daemons"]
    file = os.open(mount.path / "one", os.O_RDWR)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)
    found = json.loads(difffs("stats", "--json", mount.path).stdout)
    (one,) = (volume for volume in found["volumes"] if volume["name"] == "one")
    assert one["resident"] == 0
    assert MIB <= one["stored"] <= 2 * MIB
    table = difffs("stats", mount.path).stdout
    assert "host memory: " in table
    assert "in memory" in table


def test_stats_of_a_mount_with_folders_of_others(mount: Mounted) -> None:
    """Who may not look into a folder is told the rest."""
    (mount.path / "private").mkdir(mode=0o700)
    (mount.path / "private" / "ram").write_bytes(b"x" * MIB)
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    script = [sys.executable, "-m", "difffs", "stats", str(mount.path)]
    mount.folder.chmod(0o755)
    done = subprocess.run([*user, *script, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["volumes"], found["host_memory"]) == (None, None)
    assert found["pages"]["total"] >= 0
    told = subprocess.run([*user, *script], capture_output=True, text=True, check=True).stdout
    assert "not added up" in told


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.skipif(guest.obstacle() is not None, reason=guest.obstacle() or "")
def test_a_guest_runs_with_half_of_its_ram(mount: Mounted, tmp_path: Path) -> None:
    """Everything that it verifies is right, and the host has less to hold."""
    report = tmp_path / "report"

    class OnLess(guest.Guest):
        def command(self) -> list[str]:
            words = ["--resident", "50%", "--report", str(report), "--"]
            return [*RUN, *words, *super().command()]

    with OnLess("vm", mount.path / "vm.mem", tmp_path, 192, seed=7) as one:
        one.wait_until_off(seconds=240)
        wait_until(report.exists)
    found = json.loads(report.read_text())
    assert found["guest_ram"][0]["mapped"] == 192 * MIB
    assert found["host_memory"]["resident"] <= 100 * MIB
