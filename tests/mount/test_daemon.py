"""What is refused before a mount is even tried."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from difffs.errors import DifffsError, MountProblem
from difffs.mount import daemon
from difffs.mount.daemon import check_mountpoint, mount_in_background, open_store
from difffs.mount.detach import detach
from difffs.mount.options import MountOptions
from difffs.mount.unmount import unmount, wait_until_released


def test_mount_points_that_cannot_be(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path, remedy in (
        (tmp_path / "missing", "mkdir -p"),
        (tmp_path / "file", "not a directory"),
        (tmp_path / "file" / "below", "check the path"),
        (store, "lies in the store"),
        (store / "inside", "lies in the store"),
    ):
        with pytest.raises(MountProblem, match=remedy):
            check_mountpoint(path, store)


def test_a_store_below_its_mount_point(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mount"
    (mountpoint / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(mountpoint / "inside")
    for store in (
        mountpoint,
        mountpoint / "store",
        mountpoint / "not" / "yet" / "there",
        mountpoint / "inside",
        tmp_path / "link",
        tmp_path / "link" / "store",
        tmp_path / "link" / ".." / "store",
    ):
        with pytest.raises(MountProblem, match=r"lies below its own|lies in the store"):
            check_mountpoint(mountpoint, store)
        assert sorted(tmp_path.rglob("*")) == [
            tmp_path / "link",
            mountpoint,
            mountpoint / "inside",
        ]


@pytest.mark.skipif(os.geteuid() != 0, reason="bind mounts need root")
def test_a_store_below_another_name_of_its_mount_point(tmp_path: Path) -> None:
    """Where mounts are propagated, the one on a directory appears on its bind mounts as well."""
    directory, bound = tmp_path / "directory", tmp_path / "bound"
    (directory / "store").mkdir(parents=True)
    bound.mkdir()
    subprocess.run(["mount", "--bind", directory, bound], check=True)
    try:
        for mountpoint, store in (
            (directory, bound / "store"),
            (bound, directory / "store"),
            (directory, bound / "new" / "store"),
            (bound / "store", directory / "store"),
        ):
            with pytest.raises(MountProblem, match=r"lies below its own|lies in the store"):
                check_mountpoint(mountpoint, store)
    finally:
        subprocess.run(["umount", bound], check=True)


class _Stuck(daemon.Daemon):
    """Opens its store, so to speak, and gets no further."""

    def run(self) -> None:
        self._on_open()
        time.sleep(1000)


class _Silent(daemon.Daemon):
    """Ends without a word."""

    def run(self) -> None:
        os._exit(7)


@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or not for us"
)
def test_a_daemon_that_does_not_answer_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("store", "mount"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(daemon, "_PARENT_SECONDS", 0.2)
    before = children()
    for kind, text in ((_Stuck, "did not answer"), (_Silent, "status 7")):
        monkeypatch.setattr(daemon, "Daemon", kind)
        with pytest.raises(MountProblem, match=text):
            mount_in_background(tmp_path / "store", tmp_path / "mount", MountOptions())
        assert children() <= before, "none is left behind"


_STOPPED = """
import os, signal, sys
from pathlib import Path
from difffs.mount import daemon
from difffs.mount.options import MountOptions

class Stopped(daemon.Daemon):
    def run(self):
        Path(sys.argv[1], "number").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

daemon.Daemon = Stopped
daemon.mount_in_background(Path(sys.argv[1], "store"), Path(sys.argv[1], "mount"), MountOptions())
"""


@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or not for us"
)
def test_who_waits_for_a_stopped_daemon_can_be_interrupted(tmp_path: Path) -> None:
    for name in ("store", "mount"):
        (tmp_path / name).mkdir()
    words = [sys.executable, "-c", _STOPPED, str(tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        number = tmp_path / "number"
        end = time.monotonic() + 20
        while not (number.exists() and number.read_text()):
            assert time.monotonic() < end
            time.sleep(0.02)
        started = Path("/proc", number.read_text())
        while started.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=20)
        assert complaints.endswith("KeyboardInterrupt\n")
        assert not started.exists(), "it would mount when it goes on"


def children() -> set[str]:
    """This process's; other tests may have some that live as long as it does."""
    return {
        number
        for task in Path("/proc/self/task").iterdir()
        for number in (task / "children").read_text().split()
    }


_REDIRECT = """
import os, sys
from difffs.mount.daemon import _beyond_standard_streams, _redirect_standard_streams
lost = os.open("/dev/zero", os.O_RDONLY)
for number in eval(sys.argv[1]):
    os.close(number)
receiver, sender = os.pipe()
high = os.dup2(lost, 900)
sender = _beyond_standard_streams(sender)
complaints = _redirect_standard_streams(sender)
os.write(2, b"complaint")
names = {number: os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, sender, complaints)}
good = (
    names[0] == names[1] == os.devnull
    and names[sender].startswith("pipe:")
    and os.pread(complaints, 99, 0) == b"complaint"
    and min(sender, complaints) > 2
    and len(os.listdir("/proc/self/fd")) == 6
)
os._exit(0 if good else 1)
"""


@pytest.mark.parametrize("closed", ["()", "(0,)", "(1,)", "(2,)", "(0, 1)", "(0, 1, 2)"])
def test_standard_streams_that_were_closed(closed: str) -> None:
    done = subprocess.run([sys.executable, "-c", _REDIRECT, closed], check=False)
    assert done.returncode == 0


_STUCK = """
import signal, sys, threading
from pathlib import Path
from difffs.mount import daemon
from difffs.mount.detach import detach
from difffs.mount.options import MountOptions

class Volumes:
    def flush(self):
        print("flushing", flush=True)
        if sys.argv[1] == "stuck":
            threading.Event().wait()

class Stuck(daemon.Daemon):
    def _leave(self):
        print("leaving", flush=True)
        threading.Event().wait()

daemon.SAME_SECONDS = float(sys.argv[2])
daemon._WRITE_BACK_SECONDS = 0.1
signal.pthread_sigmask(signal.SIG_BLOCK, daemon._SIGNALS)
one = Stuck(Path("/store"), Path("/mount"), MountOptions(), lambda: None, lambda: None)
one._mounted = True
one._volumes = Volumes()
one._tuning.carries_swap = sys.argv[1] == "swap"
threading.Thread(target=one._take_signals, daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize(("kind", "status"), [("able", 0), ("stuck", 1), ("swap", None)])
def test_signals_when_the_first_is_stuck(kind: str, status: int | None) -> None:
    """The second commits and ends; the third only ends. With swap on it, none does."""
    words = [sys.executable, "-c", _STUCK, kind, "-1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "leaving\n"
            process.send_signal(signal.SIGHUP)
            if kind == "swap":
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGINT)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
                return
            assert process.stdout.readline() == "flushing\n"
            if kind == "stuck":
                process.send_signal(signal.SIGTERM)
            assert process.wait(20) == status
        finally:
            process.kill()


def test_signals_of_a_moment_are_one_wish() -> None:
    words = [sys.executable, "-c", _STUCK, "stuck", "1000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                process.send_signal(number)
            assert process.stdout.readline() == "leaving\n"
            process.send_signal(signal.SIGHUP)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
        finally:
            process.kill()
        assert process.stdout.read() == ""


@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or not for us"
)
def test_a_mount_point_that_can_be(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    check_mountpoint(tmp_path / "mount", tmp_path / "store")


def test_opening_makes_a_store_only_where_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with pytest.raises(DifffsError, match="not a difffs store"):
        open_store(path, MountOptions(read_only=True))
    assert not path.exists()
    with open_store(path, MountOptions(recipe="fast")) as store:
        assert store.recipe.name == "fast"
    with pytest.raises(DifffsError, match="recipe"):
        open_store(path, MountOptions(recipe="default"))
    with open_store(path, MountOptions(recipe="default", change_recipe=True)) as store:
        assert store.recipe.name == "default"
    with open_store(path, MountOptions(read_only=True)) as store:
        assert store.read_only


def test_unmounting_what_is_not_mounted(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/proc")):
        with pytest.raises(MountProblem, match="not a difffs mount"):
            unmount(str(path))
    with pytest.raises(DifffsError, match=r"cannot be unmounted|fusermount3"):
        detach(str(tmp_path))
    wait_until_released(tmp_path)
