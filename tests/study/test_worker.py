"""Processes of passes end with their study, quietly, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

STUDY = """
import sys
from pathlib import Path
from difffs.signals import EndedBySignal, ending_by_exception
from difffs.study.cache import Cache
from difffs.study.context import Context
from difffs.study.executors.processes import Processes
from difffs.study.passes import Pass
from tests.study.passes import endless

folder = Path(sys.argv[1])
context = Context([], Cache(folder / "cache"), folder / "scratch", Processes(2))
passes = [
    Pass("endless", 1, endless, (), {"note": str(folder / f"{number}.note")})
    for number in range(int(sys.argv[2]))
]
with ending_by_exception():
    try:
        context.attempts("trying", passes) if len(passes) == 1 else context.results(passes)
    except EndedBySignal:
        sys.exit(7)
"""


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [(signal.SIGTERM, False, 7), (signal.SIGHUP, True, 7), (signal.SIGKILL, False, -9)],
)
def test_they_end_with_their_study(
    tmp_path: Path, count: int, number: signal.Signals, to_all: bool, code: int
) -> None:
    (tmp_path / "scratch").mkdir()
    study = subprocess.Popen(
        [sys.executable, "-c", STUDY, tmp_path, str(count)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        notes = [tmp_path / f"{number}.note" for number in range(count)]
        wait_for(lambda: all(note.exists() for note in notes) or study.poll() is not None)
        assert study.poll() is None
        workers = [int(note.read_text()) for note in notes]
        (os.killpg if to_all else os.kill)(study.pid, number)
        _, complaint = study.communicate(timeout=20)
        wait_for(lambda: not any(map(alive, workers)))
    finally:
        if study.poll() is None:
            os.killpg(study.pid, signal.SIGKILL)
            study.communicate()
    assert study.returncode == code
    assert b"Traceback" not in complaint
    assert list((tmp_path / "scratch").iterdir()) == []
