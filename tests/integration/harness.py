"""A store in a real mount, driven through the command line as its users do."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import difffs as difffs_package
from difffs.mount.live import mount_at

# This checkout's difffs, whatever the current directory is.
os.environ["PYTHONPATH"] = str(Path(difffs_package.__file__).parents[1])

DIFFFS = (sys.executable, "-m", "difffs")
SECONDS = 120


def obstacle() -> str | None:
    """Say why nothing can be mounted here, or None."""
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    if os.geteuid() == 0:
        return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse cannot be opened"
    return None if shutil.which("fusermount3") else "not root, and no fusermount3"


def difffs(
    *words: str | Path, status: int = 0, standard_input: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, expect its exit code, return what it printed."""
    done = subprocess.run(
        [*DIFFFS, *map(str, words)],
        capture_output=True,
        check=False,
        timeout=SECONDS,
        input=standard_input,
    )
    result = subprocess.CompletedProcess(
        done.args, done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)
    )
    assert result.returncode == status, f"{words}: {result}"
    return result


def complaint(*words: str | Path, status: int) -> str:
    """Run a command that fails with ``status``; return its one line on stderr."""
    lines = difffs(*words, status=status).stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("difffs: ")
    return lines[0]


class Mounted:
    """One store and its mount point; ``path`` is the mount's root."""

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        """Use ``folder`` for both, unless the store lies elsewhere; mount at once."""
        self.folder = folder
        self.store = store or folder / "store"
        self.path = folder / "mount"
        self.path.mkdir()
        self.expected_log: list[str] = []
        self.mount()

    def mount(self, *options: str) -> None:
        """Mount; returns when the mount answers."""
        difffs("mount", self.store, self.path, *options)

    def unmount(self) -> None:
        """Unmount and verify the whole store."""
        difffs("umount", self.path)
        assert mount_at(self.path) is None
        self.check()

    def remount(self, *options: str) -> None:
        """Unmount, check, mount."""
        self.unmount()
        self.mount(*options)

    def check(self) -> None:
        """Verify every invariant of the store, which must not be mounted."""
        report = json.loads(difffs("check", self.store, "--json").stdout)
        assert report["clean"], report

    def statistics(self) -> dict[str, Any]:
        """Return the mount's statistics, after everything written so far is committed."""
        self.commit()
        found: dict[str, Any] = json.loads(difffs("stats", self.path, "--json").stdout)
        return found

    def commit(self) -> None:
        """Commit what has been written."""
        directory = os.open(self.path, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def process(self) -> int:
        """Return the daemon's process id."""
        note = (self.store / "lock").read_text()
        match = re.search(r"process (\d+)", note)
        assert match, note
        return int(match.group(1))

    def kill(self) -> None:
        """End the daemon as a crash would, and clear the dead mount away."""
        process = self.process()
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{process}").exists() or _is_zombie(process))
        subprocess.run(unmount_command(self.path, lazy=True), check=True, capture_output=True)

    def log(self) -> str:
        """Return the daemon's log."""
        try:
            return (self.store / "log").read_text()
        except FileNotFoundError:
            return ""

    def verify_log(self) -> None:
        """Fail on warnings that the test did not announce in ``expected_log``."""
        unexpected = [
            line
            for line in self.log().splitlines()
            if not re.match(r"\S+ \S+ \[\d+\] INFO ", line)
            and not any(re.search(pattern, line) for pattern in self.expected_log)
        ]
        assert not unexpected, unexpected


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def unmount_command(path: Path, *, lazy: bool) -> list[str]:
    """Return the system's own command to unmount."""
    if os.geteuid() == 0:
        return ["umount", *(["--lazy"] if lazy else []), str(path)]
    return ["fusermount3", "-u", *(["-z"] if lazy else []), str(path)]


def wait_until(condition: Any, seconds: float = 20) -> None:
    """Wait until ``condition()`` holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def folder_in_memory() -> Iterator[Path]:
    """Make a folder with a short name, in memory that is not swapped, or else on disk.

    An ordinary tmpfs will not do: its pages can be swapped out to a store that lies on it.
    """
    with tempfile.TemporaryDirectory(prefix="difffs-", dir="/tmp") as name:
        command = ["mount", "-t", "tmpfs", "-o", "noswap,size=2g,mode=755", "difffs-test", name]
        own = os.geteuid() == 0 and (
            subprocess.run(command, check=False, capture_output=True).returncode == 0
        )
        try:
            yield Path(name)
        finally:
            if own:
                subprocess.run(["umount", "--lazy", name], check=True)


@contextlib.contextmanager
def mounted_store() -> Iterator[Mounted]:
    """Mount a new store; at the end, unmount, check it and look through the daemon's log."""
    with folder_in_memory() as folder:
        one = Mounted(folder)
        try:
            yield one
            if mount_at(one.path) is not None:
                one.unmount()
            one.verify_log()
        finally:
            while mount_at(one.path) is not None:
                subprocess.run(unmount_command(one.path, lazy=True), check=True)


@contextlib.contextmanager
def unshared_process() -> Iterator[int]:
    """Run a process in a mount namespace of its own, in which nothing is propagated."""
    command = ["unshare", "--mount", "--propagation", "private", "sleep", "1000"]
    with subprocess.Popen(command) as process:
        try:
            name = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda: name.read_text() == "sleep\n")
            yield process.pid
        finally:
            process.kill()


def run_in_namespace(process: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the mount namespace of a process."""
    return subprocess.run(
        ["nsenter", "--target", str(process), "--mount", "--", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
