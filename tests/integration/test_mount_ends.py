"""Ends of a mount that somebody else holds, that are stuck, or that come after a failure."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.mount.detach import detach
from difffs.mount.live import mount_at
from difffs.mount.table import mounts
from difffs.mount.unmount import unmount
from difffs.signals import SAME_SECONDS
from difffs.store.lock import is_in_use
from tests.integration.harness import (
    SECONDS,
    Mounted,
    complaint,
    difffs,
    run_in_namespace,
    unmount_command,
    unshared_process,
    wait_until,
)

pytestmark = pytest.mark.integration

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="bind mounts and namespaces need root")


def ended(process: int) -> bool:
    """Whether a daemon has ended."""
    return not Path(f"/proc/{process}").exists()


@needs_root
def test_a_daemon_that_was_told_to_end_may_be_quicker_than_umount(
    mount: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a service manager's SIGTERM beside difffs swapoff."""
    (mount.path / "file").write_bytes(b"memory")
    process = mount.process()

    def detach_second(mountpoint: str, *, device: int | None = None) -> None:
        os.kill(process, signal.SIGTERM)
        wait_until(lambda: mount_at(mountpoint) is None)
        detach(mountpoint, device=device)

    monkeypatch.setattr("difffs.mount.unmount.detach", detach_second)
    assert unmount(str(mount.path)) == []
    wait_until(lambda: not is_in_use(mount.store))
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"memory"


@needs_root
def test_umount_while_another_mount_point_has_it(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"memory")
    bound = mount.folder / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", mount.path, bound], check=True)
    for one, other in ((mount.path, bound), (bound, mount.path)):
        text = complaint("umount", one, status=12)
        assert f"also mounted on {other}: umount {other} first" in text
        assert mount_at(one) is not None, "nothing is taken away"
    subprocess.run(["umount", bound], check=True)
    mount.unmount()


@needs_root
def test_umount_while_another_namespace_has_it(mount: Mounted) -> None:
    daemon = mount.process()
    (mount.path / "file").write_bytes(b"memory")
    with unshared_process() as process:
        text = complaint("umount", mount.path, status=12)
        assert f"mounted on {mount.path} by process {process} (sleep)" in text
        assert "everything is committed" in text
        assert mount_at(mount.path) is None
        there = run_in_namespace(process, "cat", mount.path / "file")
        assert there.stdout == "memory"
        # the same again, as the unit's ExecStop and then systemd would
        os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: f"by process {process} (sleep)" in mount.log())
        mount.expected_log.append("is still mounted on")
    wait_until(lambda: ended(daemon))
    mount.check()


@needs_root
def test_umount_of_a_read_only_mount_that_another_namespace_has(mount: Mounted) -> None:
    """It has no lock of its own to be waited for."""
    mount.remount("-o", "ro")
    with unshared_process() as process:
        assert f"by process {process} (sleep)" in complaint("umount", mount.path, status=12)
    mount.mount("-o", "ro")
    mount.unmount()


@needs_root
def test_umount_while_an_overlay_holds_it(mount: Mounted) -> None:
    """Which no table of mounts tells."""
    daemon = mount.process()
    folders = [mount.folder / name for name in ("upper", "work", "overlay")]
    for folder in (mount.path / "lower", *folders):
        folder.mkdir()
    upper, work, overlay = folders
    layers = f"lowerdir={mount.path / 'lower'},upperdir={upper},workdir={work}"
    words = ["mount", "-t", "overlay", "-o", layers, "overlay", str(overlay)]
    if subprocess.run(words, check=False, capture_output=True).returncode != 0:
        pytest.skip("no overlays on this kernel, or not here")
    text = complaint("umount", mount.path, status=12)
    assert f"process {daemon}" in text
    assert "overlays" in text
    subprocess.run(["umount", overlay], check=True)
    wait_until(lambda: ended(daemon))
    mount.check()


@needs_root
def test_a_second_signal_ends_what_another_namespace_has(mount: Mounted) -> None:
    mount.expected_log += ["is still mounted on", "ending although files are open"]
    daemon = mount.process()
    (mount.path / "file").write_bytes(b"memory")
    with unshared_process():
        os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: "is still mounted on" in mount.log())
        time.sleep(SAME_SECONDS)
        os.kill(daemon, signal.SIGTERM)
        wait_until(lambda: ended(daemon))
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"memory"


@needs_root
def test_a_signal_after_the_mount_was_moved_and_bound(mount: Mounted) -> None:
    daemon = mount.process()
    (mount.path / "file").write_bytes(b"memory")
    private, elsewhere, bound = (
        mount.folder / name for name in ("private", "private/elsewhere", "bound")
    )
    private.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", private], check=True)
    # a mount in a shared one cannot be moved
    subprocess.run(["mount", "--make-private", private], check=True)
    subprocess.run(["mount", "--make-private", mount.folder], check=True)
    elsewhere.mkdir()
    bound.mkdir()
    subprocess.run(["mount", "--move", mount.path, elsewhere], check=True)
    subprocess.run(["mount", "--bind", elsewhere, bound], check=True)
    os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: ended(daemon))
    assert not any(one.source == str(mount.store) for one in mounts())
    assert "WARNING" not in mount.log()
    subprocess.run(["umount", private], check=True)
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"memory"


def test_what_lies_beyond_the_largest_size_does_not_keep_it_mounted(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"memory")
    file = os.open(mount.path / "large", os.O_RDWR | os.O_CREAT)
    os.pwrite(file, b"x" * 8192, (16 << 40) - 4096)  # into the page cache
    with pytest.raises(OSError, match=r"Input/output|too large"):
        os.close(file)
    done = difffs("umount", mount.path)
    assert "beyond the largest size of a file (16 TiB) is not in the store" in done.stderr
    assert mount_at(mount.path) is None
    mount.check()
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"memory"


FAILING = """
    import sys
    from difffs.cli.main import main
    from difffs.mount.operations import VolumeOperations

    def chmod(*_):
        raise RuntimeError("a surprise")

    VolumeOperations.chmod = chmod
    sys.exit(main(["mount", "--foreground", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("way", ["umount", "signal", "system"])
def test_after_a_failure_the_store_stays_at_its_last_commit(mount: Mounted, way: str) -> None:
    (mount.path / "file").write_bytes(b"committed")
    mount.unmount()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FAILING), mount.store, mount.path],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: mount_at(mount.path) is not None)
    mount.commit()
    (mount.path / "lost").touch()
    with pytest.raises(OSError, match="Input/output"):
        (mount.path / "file").chmod(0o600)
    if way == "umount":
        assert "could not be written" in complaint("umount", mount.path, status=12)
        difffs("umount", "--force", mount.path)
    elif way == "signal":
        process.send_signal(signal.SIGTERM)
    else:
        subprocess.run(unmount_command(mount.path, lazy=False), check=True)
    _, complaints = process.communicate(timeout=SECONDS)
    assert process.returncode not in (0, None)
    assert "a surprise" in complaints
    mount.check()
    mount.mount()
    assert [path.name for path in mount.path.iterdir()] == ["file"]
    assert (mount.path / "file").read_bytes() == b"committed"


WRITER = """
    import mmap, os, sys

    pages = 64 << 8
    file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, pages << 12)
    memory = mmap.mmap(file, pages << 12)
    for page in range(pages):
        memory[page << 12 : (page << 12) + 8] = (page + 1).to_bytes(8, "little")
    print("dirty", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writer(path: Path) -> Iterator[None]:
    """A process that has a file of 64 MiB mapped, each page of which it has just written."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"dirty\n"
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def abortable(mount: Mounted) -> Iterator[None]:
    """At the end, have the kernel give a mount up, which frees all who wait for it."""
    found = mount_at(mount.path)
    assert found is not None
    number = os.minor(found.device)
    with tempfile.TemporaryDirectory() as control:
        subprocess.run(["mount", "-t", "fusectl", "none", control], check=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it has ended, as it should
                Path(control, str(number), "abort").write_text("1")
            subprocess.run(["umount", control], check=True)


@needs_root
def test_a_daemon_that_is_killed_while_it_unmounts_is_gone(mount: Mounted) -> None:
    """None of its threads waits for its own mount, which would keep it, and its lock, for ever."""
    daemon = mount.process()
    with writer(mount.path / "file"), abortable(mount):
        os.kill(daemon, signal.SIGTERM)
        time.sleep(0.15)
        assert not ended(daemon), "it has 64 MiB to write"
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: ended(daemon), seconds=10)
    subprocess.run(unmount_command(mount.path, lazy=True), check=False, capture_output=True)
    mount.check()


SILENT_START = """
    import sys, threading
    from difffs.cli.main import main
    from difffs.mount.operations import VolumeOperations

    VolumeOperations.getattr = lambda *_: threading.Event().wait()
    sys.exit(main(["mount", *sys.argv[1:]]))
"""


@needs_root
def test_a_daemon_that_is_killed_before_its_mount_answers_is_gone(mount: Mounted) -> None:
    mount.unmount()
    words = [sys.executable, "-c", textwrap.dedent(SILENT_START)]
    words += ["--foreground", str(mount.store), str(mount.path)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: mount_at(mount.path) is not None)
        with abortable(mount):
            time.sleep(0.5)
            process.kill()
            process.wait(10)
    subprocess.run(unmount_command(mount.path, lazy=True), check=False, capture_output=True)
    mount.check()


@needs_root
@pytest.mark.parametrize(
    "burst",
    [
        [(signal.SIGTERM, 0.15), (signal.SIGTERM, 0)],
        [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 0)],
        [(signal.SIGTERM, SAME_SECONDS + 0.2), (signal.SIGTERM, 0.1), (signal.SIGTERM, 0)],
    ],
)
def test_signals_lose_nothing_that_is_on_its_way(
    mount: Mounted, burst: list[tuple[signal.Signals, float]]
) -> None:
    """Those of a moment are one wish, and the second waits for the write-back under way."""
    mount.expected_log += ["is in use: .*detached it", "ending although files are open", "is still"]
    daemon = mount.process()
    with writer(mount.path / "file"), abortable(mount):
        for number, pause in burst:
            os.kill(daemon, number)
            time.sleep(pause)
        wait_until(lambda: mount_at(mount.path) is None)
    wait_until(lambda: ended(daemon))
    mount.check()
    mount.mount()
    with (mount.path / "file").open("rb") as file:
        for page in range(64 << 8):
            assert file.read(4096)[:8] == (page + 1).to_bytes(8, "little")


WITH_TIMEOUTS = """
    import sys
    from pathlib import Path
    from difffs.cli.main import main
    from difffs.mount import kernel_tuning

    kernel_tuning._FUSE_SETTINGS = Path(sys.argv[1])
    sys.exit(main(["mount", *sys.argv[2:]]))
"""


def test_timeouts_of_requests_are_warned_of(mount: Mounted) -> None:
    """Another folder stands for the kernel's, whose settings are the whole machine's."""
    mount.unmount()
    (mount.folder / "default_request_timeout").write_text("3600\n")
    (mount.folder / "max_request_timeout").write_text("0\n")
    script = textwrap.dedent(WITH_TIMEOUTS)
    subprocess.run(
        [sys.executable, "-c", script, mount.folder, mount.store, mount.path],
        check=True,
        timeout=SECONDS,
    )
    mount.expected_log.append("fs.fuse.default_request_timeout is 3600: .* mount again")
    (line,) = [line for line in mount.log().split("\n") if "_request_timeout" in line]
    assert " WARNING " in line


FAILING_START = """
    import os, sys, threading
    from difffs.cli.main import main
    from difffs.errors import MountProblem
    from difffs.mount import daemon

    def fails(*_):
        raise MountProblem("the flags cannot be set")

    def hangs(*_):
        threading.Event().wait()

    def dies(*_):
        os._exit(9)

    daemon._ANSWER_SECONDS = 0.3
    daemon.apply_to_mountpoint = {"fails": fails, "hangs": hangs, "dies": dies}[sys.argv[1]]
    sys.exit(main(["mount", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize(
    ("kind", "told"), [("fails", "the flags cannot be set"), ("hangs", "does not answer after")]
)
def test_a_start_that_fails_leaves_nothing(
    mount: Mounted, kind: str, told: str, foreground: bool
) -> None:
    mount.unmount()
    words = [sys.executable, "-c", textwrap.dedent(FAILING_START), kind]
    done = subprocess.run(
        [*words, mount.store, mount.path, *(["--foreground"] if foreground else [])],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 12
    assert told in done.stderr
    assert mount_at(mount.path) is None
    mount.check()
    mount.mount()


def test_lazily(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"memory")
    with (mount.path / "file").open("r+b") as file:
        difffs("umount", "--lazy", mount.path)
        assert mount_at(mount.path) is None
        assert file.read() == b"memory"
        file.write(b" and more")
    wait_until(lambda: not is_in_use(mount.store))
    mount.check()
    assert "is not a difffs mount" in complaint("umount", "--lazy", "/proc", status=12)
    mount.mount()
    assert (mount.path / "file").read_bytes() == b"memory and more"


def test_a_daemon_that_dies_before_it_answers_leaves_nothing(mount: Mounted) -> None:
    mount.unmount()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FAILING_START), "dies", mount.store, mount.path],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 12
    assert "the daemon ended (status 9)" in done.stderr
    assert mount_at(mount.path) is None
    mount.check()
    mount.mount()
