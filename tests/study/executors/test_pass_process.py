"""A pass in a process that a worker starts: its result, its failures, its end."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from difffs.errors import EnvironmentProblem
from difffs.study.cache import Cache
from difffs.study.executors.pass_process import ProcessEnded, make_in_process
from difffs.study.passes import Pass
from tests.study.passes import endless, killed, refused, spans

ROOT = Path(__file__).parents[3]

WORKER = """
import sys
from contextlib import nullcontext
from pathlib import Path
from difffs.study.cache import Cache
from difffs.study.executors.pass_process import make_in_process
from difffs.study.passes import Pass
from tests.study.passes import endless

folder = Path(sys.argv[1])
work = Pass("endless", 1, endless, (), {"note": str(folder / "note")})
make_in_process(work, Cache(folder / "cache"), folder / "scratch", nullcontext)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty one."""
    return Cache(tmp_path / "cache")


def make(work: Pass, cache: Cache, scratch: Path) -> bytes:
    return make_in_process(work, cache, scratch, lambda _process: nullcontext())


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_results_go_to_the_cache_and_failures_come_back(cache: Cache, scratch_folder: Path) -> None:
    good = Pass("spans", 1, spans, (), {"number": 3, "seconds": 0.0})
    assert make(good, cache, scratch_folder) == b""
    assert cache.require(good.key)["number"] == 3
    error = pickle.loads(make(Pass("refused", 1, refused, ()), cache, scratch_folder))
    assert isinstance(error, EnvironmentProblem)
    assert str(error) == "it is forbidden here"
    assert "in refused" in error.__notes__[0]
    with pytest.raises(ProcessEnded) as ended:
        make(Pass("killed", 1, killed, ()), cache, scratch_folder)
    assert ended.value.how == "SIGKILL"


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    worker = subprocess.Popen([sys.executable, "-c", WORKER, tmp_path], cwd=ROOT)
    try:
        wait_for(lambda: (tmp_path / "note").exists() or worker.poll() is not None)
        process = int((tmp_path / "note").read_text())
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    wait_for(lambda: not Path(f"/proc/{process}").exists())
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_daemonic_process_may_start_it(cache: Cache, scratch_folder: Path) -> None:
    """As the workers of Dask are, which may have no children of multiprocessing."""
    from multiprocessing import get_context

    work = Pass("spans", 1, spans, (), {"number": 4, "seconds": 0.0})
    process = get_context("spawn").Process(
        target=make, args=(work, cache, scratch_folder), daemon=True
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert cache.require(work.key)["number"] == 4


def test_what_wants_to_be_alone_waits_for_others(
    cache: Cache, scratch_folder: Path, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    other = Pass("endless", 1, endless, (), {"note": str(note)})
    alone = Pass("spans", 1, spans, (), {"number": 5, "seconds": 0.0}, timed=True)

    def be_in_the_way() -> None:
        with pytest.raises(ProcessEnded, match="143"):
            make(other, cache, scratch_folder)

    threads = [threading.Thread(target=be_in_the_way)]
    threads[0].start()
    wait_for(note.exists)
    threads.append(threading.Thread(target=make, args=(alone, cache, scratch_folder)))
    threads[1].start()
    threads[1].join(1.0)
    assert threads[1].is_alive(), "it is not made beside another"
    os.kill(int(note.read_text()), signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert cache.require(alone.key)["number"] == 5
