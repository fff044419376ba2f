"""A test that hangs ends, whatever it hangs in, and the output says where."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import harness
from tests.integration.harness import Mounted

ROOT = Path(__file__).parents[2]


def run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a test with ``body`` and a second one, under this project's rules but in a hurry."""
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    (folder / "test_hanging.py").write_text(
        f"def test_hangs():\n{lines}\n\n\ndef test_behind_it():\n    pass\n"
    )
    words = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "--timeout=1"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider", "-v", str(folder)],
        env=os.environ | {"DIFFFS_TEST_GRACE": "2"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=harness.SECONDS,
    )


def test_one_that_waits_fails_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "import threading\nthreading.Event().wait()")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in done.stdout
    assert "Timeout" in done.stdout
    assert "test_hanging.py:3: " in done.stdout


def test_one_in_native_code_ends_the_run(tmp_path: Path) -> None:
    """PyDLL keeps the GIL, so that no other Python runs; no signal ends the wait for a mutex."""
    lock = "libc.pthread_mutex_lock(mutex)"
    done = run(
        tmp_path,
        "import ctypes\nlibc = ctypes.PyDLL(None)\nmutex = ctypes.create_string_buffer(64)\n"
        f"{lock}\n{lock}",
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "test_hanging.py" in done.stderr
    assert "test_hangs" in done.stderr


@pytest.mark.integration
def test_one_in_a_system_call_of_a_stuck_mount_ends_the_run(mount: Mounted, tmp_path: Path) -> None:
    """FUSE waits for its answer through every signal that is not deadly."""
    daemon = mount.process()
    os.kill(daemon, signal.SIGSTOP)
    try:
        done = run(tmp_path, f"import os\nos.statvfs({str(mount.path)!r})")
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "test_hangs" in done.stderr
