"""``difffs study`` on a cluster whose workers are killed three times: the report is that of one
machine, byte for byte, times apart.

On small images that the test makes, or, as long as it takes, on those of a folder:

    DIFFFS_STUDY_CORPORA=corpora scripts/test -m minutes tests/integration/test_study_cluster.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmark.dask_processes import DaskProcesses, dask_processes

from tests.study.conftest import image_folder  # noqa: F401
from tests.study.times_apart import results_of, with_times_of

CORPORA = "DIFFFS_STUDY_CORPORA"
QUESTIONS = "1,2,3,4,5,8"
"""Of the others all passes are made by the machine that reports, as are the archives of 8."""
SAMPLE = 60
KILLS = 3

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.timeout(4 * 3600),
]


def command(images: Path, cache: Path, *words: str) -> list[str]:
    options = ["--questions", os.environ.get("DIFFFS_STUDY_QUESTIONS", QUESTIONS)]
    options += ["--recipes", "default,identical-only", "--sample", str(SAMPLE), "--json"]
    return [
        sys.executable,
        "-m",
        "difffs",
        "study",
        *options,
        "--cache",
        str(cache),
        *words,
        str(images),
    ]


def report(images: Path, cache: Path) -> dict[str, Any]:
    """A report made of what is in the cache, or made now, without what tells when it was made."""
    done = subprocess.run(command(images, cache), check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    for section in found["sections"].values():
        section["seconds"] = None
    return {**found, "made": None}


def results_in(cache: Path) -> int:
    return sum(1 for _ in cache.glob("*.json")) if cache.exists() else 0


def study_while_killing(processes: DaskProcesses, images: Path, cache: Path, count: int) -> int:
    """Fill a cache on a cluster; kill a worker each time another part of the results is there, and
    return how often."""
    killed: list[int] = []
    words = ["--cluster", processes.address, "--passes-only"]
    with subprocess.Popen(command(images, cache, *words)) as study:
        while study.poll() is None:
            time.sleep(0.05)
            workers = [worker for worker in processes.workers() if worker not in killed]
            due = (len(killed) + 1) * count // (KILLS + 1)
            if len(killed) < KILLS and workers and results_in(cache) >= due:
                killed.append(workers[len(killed) % len(workers)])
                os.kill(killed[-1], signal.SIGKILL)
    assert study.returncode == 0
    return len(killed)


def test_the_report_is_that_of_one_machine(
    image_folder: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    images = Path(os.environ.get(CORPORA, image_folder)).absolute()
    here, shared = tmp_path / "here", tmp_path / "shared"
    expected = report(images, here)
    folder = tmp_path / "dask"
    folder.mkdir()
    with dask_processes(folder, 2) as processes:
        killed = study_while_killing(processes, images, shared, results_in(here))
    assert killed == KILLS
    assert results_of(shared) == results_of(here)

    # The same times, and a report is made of the cluster's results: to the last byte the same.
    for path in here.glob("*.json"):
        theirs = json.loads((shared / path.name).read_text())
        given = with_times_of(json.loads(path.read_text()), theirs)
        (shared / path.name).write_text(json.dumps(given))
    before = results_of(shared)
    assert json.dumps(report(images, shared)) == json.dumps(expected)
    assert results_of(shared) == before, "nothing was made again"
