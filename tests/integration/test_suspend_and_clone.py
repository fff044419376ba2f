"""scripts/suspend-resume and scripts/clone-guest, with QEMUs that a user has started and with their
own trials: real guests on a real mount."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from suspending.command import obstacle
from trial.guest import RUN_GUEST, Guest, QemuGuest

from tests.integration.harness import Mounted, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
WORK = "archive,noise"
MEBIBYTES = 128

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def able() -> None:
    """Skip where no guest can run on a mount."""
    subprocess.run([CHECKOUT / "scripts" / "make-guest"], check=False, capture_output=True)
    if reason := obstacle():
        pytest.skip(reason)


def started(package: str, *words: str | Path) -> subprocess.Popen[str]:
    """Start a script's package."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'scripts'}"}
    return subprocess.Popen(
        [sys.executable, "-m", package, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told(package: str, *words: str | Path) -> dict[str, Any]:
    """Run it to its end with --json; what it told."""
    with started(package, *words, "--json") as process:
        out, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(out)
    return found


def complaint(package: str, *words: str | Path) -> str:
    """Run what cannot be done; its one line."""
    with started(package, *words) as process:
        _, errors = process.communicate(timeout=400)
    assert process.returncode == 2, errors
    (line,) = errors.splitlines()
    return line


class BareQemu(QemuGuest):
    """A machine that runs no guest, for what is refused."""

    words: tuple[str, ...] = ()
    sharing = "share=on"

    def command(self) -> list[str]:
        """Return the call of QEMU."""
        ram = f"memory-backend-file,id=ram,size=8M,mem-path={self.memory},{self.sharing}"
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-accel", "tcg,tb-size=32", "-m", "8M", "-object", ram),
            *("-machine", "q35,memory-backend=ram", "-qmp"),
            *(f"unix:{self.socket},server=on,wait=off", *self.words),
        ]


@contextmanager
def bare(memory: Path, *words: str, sharing: str = "share=on") -> Iterator[BareQemu]:
    """Start one with its RAM in that file."""
    one = BareQemu("bare", memory, memory.parent.parent)
    one.words, one.sharing = words, sharing
    with one:
        wait_until(one.socket.exists)
        yield one


def test_a_guest_is_suspended_cloned_and_resumed(mount: Mounted) -> None:
    memory, state = mount.path / "vm.mem", mount.folder / "vm.state"
    arguments: dict[str, Any] = {
        "memory": memory,
        "folder": mount.folder,
        "mebibytes": MEBIBYTES,
        "work": WORK,
        "end": "count",
    }
    with Guest("vm", **arguments) as one:
        one.wait_for("tick")
        found = told("suspending", "suspend", "--qmp", one.socket, "--state", state)
        assert one.process is not None
        assert one.process.wait() == 0
        last = int(one.events()[-1].values["count"])
        seen = len(one.events())
    assert state.stat().st_mode & 0o077 == 0
    assert found["state_bytes"] == state.stat().st_size < 1 << 20
    (ram,) = found["memory"]
    assert (ram["file"], ram["size"]) == (str(memory), MEBIBYTES << 20)
    assert 0 < ram["stored"] < ram["size"] // 2
    mount.remount()

    command: list[str | Path] = [
        RUN_GUEST,
        "--memory",
        memory,
        "--size",
        f"{MEBIBYTES}M",
        "--clone",
    ]
    command += ["--serial", mount.folder / "clone-{number}", "--qmp", "{qmp}"]
    words: list[str | Path] = ["--memory", memory, "--state", state]
    options = ["--clones", "2", "--settle", "0", "--json"]
    with started("cloning", "start", *words, *options, "--", *command) as process:
        consoles = [mount.folder / f"clone-{number}" for number in (1, 2)]
        wait_until(
            lambda: all(
                path.exists() and f"count={last + 2} ok=1" in path.read_text() for path in consoles
            ),
            120,
        )
        os.kill(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "failed" not in "".join(path.read_text() for path in consoles)
    taken = json.loads(out)
    assert taken["nominal"] == 2 * MEBIBYTES << 20
    assert len(taken["clones"]) == 2
    assert all(0 < each["changed"] < MEBIBYTES << 18 for each in taken["clones"])
    assert taken["used"] > taken["used_without_qemu"] > taken["resident"] > 0

    with Guest("vm", **arguments, incoming=True) as one:
        told("suspending", "resume", "--qmp", one.socket, "--state", state)
        tick = one.wait_for("tick", 60, start=seen)
        assert tick.values == {"name": "vm", "count": str(last + 1), "ok": "1"}
        assert not state.exists()
        line = complaint("suspending", "resume", "--qmp", one.socket, "--state", state)
        assert "vm.state.used was resumed from already" in line
        state.touch()
        used = state.with_name("vm.state.used")
        line = complaint("suspending", "resume", "--qmp", one.socket, "--state", used)
        assert "suspend it again" in line
        line = complaint("cloning", "start", *words, "--", *command)
        assert "is written by process" in line


def test_the_trial_of_suspending() -> None:
    words = ("--memory", str(MEBIBYTES), "--ticks", "1", "--work", WORK)
    found = told("suspending", "trial", *words)
    assert found["counted"]["after"] == found["counted"]["before"] + 1
    assert 0 < found["suspend"]["state_bytes"] < 1 << 20
    assert found["factor"] > 1.5


def test_the_trial_of_cloning_shares_the_memory() -> None:
    words = ("--memory", str(MEBIBYTES), "--ticks", "1", "--work", WORK)
    found = told("cloning", "trial", "--clones", "4", *words)
    counted = found["counted"]
    assert len(counted["clones"]) == 4
    assert min(counted["clones"]) > counted["before"]
    one, together = found["one"], found["all"]
    assert together["nominal"] == 4 * one["nominal"] == 4 * MEBIBYTES << 20
    assert found["ratio_without_qemu"] <= 1.6
    assert together["used"] < 4 * one["used"]
    assert found["ratio"] == pytest.approx(together["used"] / one["used"], abs=1e-3)


def test_what_cannot_be_suspended_is_told_and_goes_on(mount: Mounted) -> None:
    state = mount.folder / "state"

    def refused(one: BareQemu, where: Path = state) -> str:
        return complaint("suspending", "suspend", "--qmp", one.socket, "--state", where)

    memory = mount.path / "bare.mem"
    with bare(memory, sharing="share=off") as one:
        assert "share=on" in refused(one)
    with bare(memory) as one:
        assert not state.exists()
        state.touch()
        assert "is there" in refused(one)
        state.unlink()
        small = mount.folder / "small"
        small.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(small)]
        if os.geteuid() == 0 and subprocess.run(mounting, check=False).returncode == 0:
            try:
                assert "it goes on" in refused(one, small / "state")
                assert list(small.iterdir()) == []
            finally:
                subprocess.run(["umount", small], check=True)
        assert one.monitor.command("query-status")["running"]
    (mount.folder / "elsewhere").mkdir()
    with bare(mount.folder / "elsewhere" / "bare.mem") as one:
        assert "mem-path in a mount" in refused(one)
        assert not state.exists()
    assert "no QEMU answers" in refused(one)


def test_what_cannot_be_resumed_or_cloned_is_told(mount: Mounted) -> None:
    memory, state = mount.path / "bare.mem", mount.folder / "state"

    def refused(one: BareQemu) -> str:
        return complaint("suspending", "resume", "--qmp", one.socket, "--state", state)

    with bare(memory) as one:
        assert "no state in" in refused(one)
        state.write_bytes(b"no state")
        assert "-incoming defer" in refused(one)
    with bare(memory, "-incoming", "defer", sharing="share=off") as one:
        assert "share=on" in refused(one)
    with bare(memory, "-incoming", "defer") as one:
        assert "cannot be loaded" in refused(one)
        assert state.exists()
    used = mount.folder / "state.used"
    used.touch()
    for path, command, expected in (
        (used, ["true", "{qmp}"], "suspend it again"),
        (mount.folder / "none", ["true", "{qmp}"], "no file"),
        (state, ["true"], "has no {qmp}"),
    ):
        words: list[str | Path] = ["--memory", memory, "--state", path]
        assert expected in complaint("cloning", "start", *words, "--", *command)
