"""One writer or many readers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from difffs.errors import StoreBusy
from difffs.store.lock import StoreLock, read_note


def test_a_writer_excludes_everybody(tmp_path: Path) -> None:
    with StoreLock(tmp_path, shared=False) as lock:
        lock.write_note("process 12\nmounted on /mnt")
        for shared in (False, True):
            with pytest.raises(StoreBusy, match="in use by process 12, mounted on /mnt"):
                StoreLock(tmp_path, shared=shared)
    StoreLock(tmp_path, shared=False).release()


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    StoreLock(tmp_path, shared=False).release()
    with (
        StoreLock(tmp_path, shared=True),
        StoreLock(tmp_path, shared=True),
        pytest.raises(StoreBusy, match="another process"),
    ):
        StoreLock(tmp_path, shared=False)
    with StoreLock(tmp_path, shared=False):
        pass


def test_the_note_names_the_process_until_release(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path, shared=False)
    assert read_note(tmp_path) == f"process {os.getpid()}"
    lock.write_note("a much longer note than the next")
    lock.write_note("short")
    assert read_note(tmp_path) == "short"
    lock.release()
    assert read_note(tmp_path) == ""
    lock.release()


def test_a_reader_leaves_no_note(tmp_path: Path) -> None:
    StoreLock(tmp_path, shared=False).release()
    with StoreLock(tmp_path, shared=True) as lock, pytest.raises(ValueError, match="writer"):
        lock.write_note("x")


def test_a_reader_needs_no_lock_file(tmp_path: Path) -> None:
    with StoreLock(tmp_path, shared=True):
        assert not (tmp_path / "lock").exists()
    assert read_note(tmp_path) == ""


def test_the_kernel_drops_a_dead_writers_lock_but_keeps_its_note(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from difffs.store.lock import StoreLock\n"
        "lock = StoreLock(pathlib.Path(sys.argv[1]), shared=False)\n"
        "lock.write_note('the dead')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    assert done.returncode == -9
    assert read_note(tmp_path) == "the dead"
    with StoreLock(tmp_path, shared=False):
        assert read_note(tmp_path) == f"process {os.getpid()}"


def test_a_released_lock_file_keeps_its_block(tmp_path: Path) -> None:
    """On a full disk the next writer could not leave its note otherwise."""
    StoreLock(tmp_path, shared=False).release()
    assert (tmp_path / "lock").stat().st_size > 0
