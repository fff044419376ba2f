"""A cluster of the study's own, in a process as a terminal starts it: it ends with the study."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

STUDY = """
import sys
from pathlib import Path
from difffs.signals import EndedBySignal, ending_by_exception
from difffs.study.cache import Cache
from difffs.study.executors.cluster import ClusterChoice, connected
from difffs.study.passes import Pass
from tests.study.passes import endless

def main():
    folder = Path(sys.argv[1])
    cache, scratch = Cache(folder / "cache"), folder / "scratch"
    work = Pass("endless", 1, endless, (), {"note": str(folder / "note")})
    with ending_by_exception():
        try:
            with connected(ClusterChoice.parse("local:1", 1), cache, scratch) as executor:
                executor.run([work], cache, scratch, print)
        except (KeyboardInterrupt, EndedBySignal):
            sys.exit(7)

if __name__ == "__main__":
    main()
"""


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 7),
        pytest.param(signal.SIGKILL, -9, id="killed", marks=pytest.mark.minutes),
    ],
)
def test_it_ends_with_its_study(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "scratch").mkdir()
    script = tmp_path / "study.py"
    script.write_text(STUDY)
    study = subprocess.Popen(
        [sys.executable, script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_for(lambda: (tmp_path / "note").exists() or study.poll() is not None)
        assert study.poll() is None
        assert len(members(study.pid)) >= 3, "the study, a worker, a pass"
        if number == signal.SIGINT:
            os.killpg(study.pid, number)  # as a terminal does
        else:
            study.kill()
        _, complaint = study.communicate(timeout=30)
        wait_for(lambda: not members(study.pid))
    finally:
        if members(study.pid):
            os.killpg(study.pid, signal.SIGKILL)
    assert study.returncode == code
    if number == signal.SIGINT:
        assert complaint == b""
    left = [path.name for path in (tmp_path / "scratch").iterdir()]
    assert all(name.startswith("dask") for name in left), "no pass's folder"
