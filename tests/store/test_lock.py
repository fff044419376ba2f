"""One writer or many readers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from difffs.errors import StoreBusy
from difffs.store.lock import StoreLock, is_in_use, mount_note, read_note, use_of


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


def test_a_note_of_a_mount_whose_name_is_no_utf8(tmp_path: Path) -> None:
    mountpoint = "/mnt/\udcff\x85\ndevice 9:9 it is not"
    with StoreLock(tmp_path, shared=False) as lock:
        lock.write_note(mount_note(mountpoint, os.makedev(0, 52)))
        assert (tmp_path / "lock").read_bytes().endswith(os.fsencode(mountpoint))
        assert is_in_use(tmp_path)
        use = use_of(tmp_path)
        assert use.device == os.makedev(0, 52)
        assert use.describe() == (
            f"process {os.getpid()}, mounted on {mountpoint}".replace("\n", ", ")
        )
        with pytest.raises(StoreBusy, match="mounted on /mnt/"):
            StoreLock(tmp_path, shared=False)
    assert not is_in_use(tmp_path)
    assert not is_in_use(tmp_path / "missing")


def test_the_process_behind_a_lock(tmp_path: Path) -> None:
    """Its id in the note is another namespace's: it is found by the file that it has open."""
    script = (
        "import sys, time; from pathlib import Path; from difffs.store.lock import StoreLock; "
        "lock = StoreLock(Path(sys.argv[1]), shared=False); lock.write_note(sys.argv[2]); "
        "print(flush=True); time.sleep(1000)"
    )
    for note in ("", "process 1\n", "process 4000000\nmounted on /mnt"):
        words = [sys.executable, "-c", script, str(tmp_path), note]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                process.stdout.readline()
                assert use_of(tmp_path).process == process.pid
            finally:
                process.kill()
    assert use_of(tmp_path).process is None
