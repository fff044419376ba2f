"""Passes on a real scheduler and two real workers: results as without, and clear errors."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark.dask_processes import DaskProcesses, dask_processes

from difffs.errors import EnvironmentProblem, UsageError
from difffs.recipe import RECIPES
from difffs.study import sharing, transforming
from difffs.study.cache import Cache
from difffs.study.corpus import Corpus
from difffs.study.executors import cluster
from difffs.study.executors.cluster import ClusterChoice, DaskCluster, connected
from difffs.study.executors.here import ThisProcess
from difffs.study.image_finder import FOLDERS_VARIABLE, share
from difffs.study.importing import import_pass
from difffs.study.passes import Pass
from tests.study.passes import broken, endless, killed, killing, refused, spans
from tests.study.times_apart import results_of

ROOT = Path(__file__).parents[3]
WORKERS = 2

Run = Callable[..., list[Pass]]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers look for images in."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, elsewhere: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers of a thread each."""
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", FOLDERS_VARIABLE: str(elsewhere)}
    with dask_processes(tmp_path_factory.mktemp("dask"), WORKERS, environment) as started:
        yield started


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty one."""
    return Cache(tmp_path / "cache")


@contextmanager
def executor_at(address: str, cache: Cache, scratch: Path) -> Iterator[DaskCluster]:
    with connected(ClusterChoice.parse(address, 1), cache, scratch) as executor:
        yield executor


@pytest.fixture
def executor(processes: DaskProcesses, cache: Cache, scratch_folder: Path) -> Iterator[DaskCluster]:
    """An executor on the two workers, all of which are there."""
    with executor_at(processes.address, cache, scratch_folder) as found:
        found._client.wait_for_workers(WORKERS, timeout=60)
        yield found


@pytest.fixture
def run(executor: DaskCluster, cache: Cache, scratch_folder: Path) -> Run:
    """Makes passes, and returns which were told to be done."""

    def run_all(*passes: Pass) -> list[Pass]:
        told: list[Pass] = []
        executor.run(passes, cache, scratch_folder, told.append)
        return told

    return run_all


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# --------------------------------------------------------------------------------------- results


def test_results_are_those_of_one_process_though_a_worker_is_killed(
    run: Run, corpora: list[Corpus], cache: Cache, tmp_path: Path, scratch_folder: Path
) -> None:
    kills = tmp_path / "kills"
    work = [
        Pass(name, 1, function, (image,))
        for name, function in (
            ("digests", sharing.digest_pass),
            ("transform keys", transforming.key_pass),
        )
        for image in corpora[0].images
    ]
    work += [import_pass(corpora[0].images, RECIPES[name]) for name in ("fast", "patch-only")]
    work.append(Pass("killing", 1, killing, (), {"kills": str(kills)}))

    kills.write_text("1")
    told = run(*work)
    assert kills.read_text() == "0", "its worker is killed while it is made"
    assert sorted(one.key for one in told) == sorted(one.key for one in work)
    here = Cache(tmp_path / "here")
    ThisProcess().run(work, here, scratch_folder, lambda _work: None)
    assert results_of(cache.folder) == results_of(here.folder)
    wait_for(lambda: not list(scratch_folder.iterdir()))  # the killed one's process puts away


def test_those_that_want_to_be_alone_are(run: Run, cache: Cache) -> None:
    passes = [
        Pass("spans", 1, spans, (), {"number": number, "seconds": 0.1}, timed=number < 2)
        for number in range(4)
    ]
    run(*passes)
    found = [cache.require(work.key)["span"] for work in passes]
    for span in found[:2]:
        others = [other for other in found if other is not span]
        assert all(end <= span[0] or span[1] <= start for start, end in others)


def test_what_is_in_the_folder_already_is_not_made(run: Run, cache: Cache) -> None:
    work = Pass("broken", 1, broken, ())
    cache.put(work.key, {"from": "another"})
    assert run(work) == [work]
    assert cache.get(work.key) == {"from": "another"}


def test_machines_are_told(executor: DaskCluster) -> None:
    (machine,) = executor.machines()
    assert machine["workers"] == WORKERS
    assert machine["cores"] == os.cpu_count()


# ---------------------------------------------------------------------------------------- images


def test_images_are_found_wherever_they_are(
    run: Run, corpora: list[Corpus], cache: Cache, tmp_path: Path, elsewhere: Path
) -> None:
    image = corpora[0].images[0]
    moved = replace(image, path=tmp_path / "gone.mem")
    work = Pass("digests", 1, sharing.digest_pass, (moved,))
    with pytest.raises(EnvironmentProblem) as problem:
        run(work)
    for word in ("worker tcp://", moved.name, image.sha256, str(moved.path), "--share-images"):
        assert word in str(problem.value)

    (elsewhere / "renamed").write_bytes(image.path.read_bytes())
    run(work)
    (elsewhere / "renamed").unlink()
    (cache.folder / f"{work.key}.json").unlink()

    share(image, cache.folder)
    run(work)
    expected = sharing.digest_pass([image], tmp_path, {})
    assert (cache.require(work.key)["digests"].mapped() == expected["digests"]).all()


def test_another_file_of_that_name_is_not_taken_for_the_image(
    run: Run, corpora: list[Corpus], tmp_path: Path
) -> None:
    image, other = corpora[1].images
    path = tmp_path / "one.mem"
    path.write_bytes(other.path.read_bytes())
    with pytest.raises(EnvironmentProblem, match=f"no image one .SHA-256 {image.sha256}"):
        run(Pass("digests", 1, sharing.digest_pass, (replace(image, path=path),)))


# ---------------------------------------------------------------------------------------- errors


def test_errors_of_passes_come_back_as_they_are(run: Run) -> None:
    with pytest.raises(EnvironmentProblem) as refusal:
        run(Pass("refused", 1, refused, ()))
    assert re.fullmatch(r"it is forbidden here \(worker tcp://\S+ \(\S+\)\)", str(refusal.value))
    with pytest.raises(AssertionError, match="differently") as bug:
        run(Pass("broken", 1, broken, ()))
    assert "in broken" in "".join(bug.value.__notes__), "where it was"


def test_a_killed_process_of_a_pass_is_said(run: Run) -> None:
    with pytest.raises(EnvironmentProblem, match=r"worker tcp.*\(killed\) ended with SIGKILL"):
        run(Pass("killed", 1, killed, ()))


def test_a_worker_that_does_not_find_a_function_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "__qualname__", "gone", raising=False)
    work = Pass("spans", 1, spans, ())
    monkeypatch.setattr("tests.study.passes.gone", spans, raising=False)
    with pytest.raises(EnvironmentProblem, match=r"worker tcp.*does not find.*gone.*PYTHONPATH"):
        run(work)


def test_another_difffs_is_refused(executor: DaskCluster, run: Run) -> None:
    expected, mark = executor._expected
    executor._expected = ({**expected, "libzstd": "0.1"}, mark)
    refusal = r"worker tcp://\S+ .*has libzstd \S+ and not 0.1: install the same difffs on all"
    with pytest.raises(EnvironmentProblem, match=refusal):
        executor.require_workers()
    with pytest.raises(EnvironmentProblem, match=refusal):  # one that has come later
        run(Pass("spans", 1, spans, ()))


def test_another_release_is_refused(executor: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difffs.__version__", "9.0")
    with pytest.raises(EnvironmentProblem, match=r"has difffs \S+, and not 9.0: install the same"):
        executor.require_workers()


def test_a_folder_that_workers_do_not_see_is_refused(executor: DaskCluster, tmp_path: Path) -> None:
    executor._expected = (executor._expected[0], str(tmp_path / "other" / "mark"))
    with pytest.raises(EnvironmentProblem, match=r"does not see the folder .*/other: .*--cache"):
        executor.require_workers()


def test_a_result_that_does_not_arrive_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ARRIVAL_SECONDS", 0.2)
    monkeypatch.setattr(Cache, "get", lambda _self, _key: None)
    with pytest.raises(EnvironmentProblem, match="does not show a result"):
        run(Pass("spans", 1, spans, (), {"number": 1, "seconds": 0.0}))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "tcp://127.0.0.1:9", "nonsense://x", "no host"])
def test_no_scheduler_is_said(
    address: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    with (
        pytest.raises(EnvironmentProblem, match=f"no scheduler at {address} .*`dask scheduler`"),
        executor_at(address, cache, tmp_path),
    ):
        pass
    assert list(cache.folder.iterdir()) == []


def test_a_scheduler_without_workers_and_one_that_goes_away(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "_LOOK_SECONDS", 0.1)
    with dask_processes(tmp_path, 0) as empty:
        with (
            pytest.raises(EnvironmentProblem, match=r"has had no worker for .*`dask worker tcp"),
            executor_at(empty.address, cache, tmp_path),
        ):
            pass
        monkeypatch.setattr(DaskCluster, "require_workers", lambda _self: None)
        work = Pass("spans", 1, spans, ())
        with executor_at(empty.address, cache, tmp_path) as executor:
            with pytest.raises(EnvironmentProblem, match=r"has had no worker for"):
                executor.run([work], cache, tmp_path, lambda _work: None)

            def look() -> dict[str, int]:
                empty.scheduler.kill()
                return {"a worker": 1}

            monkeypatch.setattr(cluster, "WORKER_SECONDS", 60)
            monkeypatch.setattr(executor._client, "nthreads", look)
            with pytest.raises(EnvironmentProblem, match=r"the scheduler at tcp://.* has gone"):
                executor.run([work], cache, tmp_path, lambda _work: None)


@pytest.mark.minutes
def test_a_pass_that_ends_every_worker_ends_the_study(run: Run, tmp_path: Path) -> None:
    kills = tmp_path / "kills"
    kills.write_text("9")
    with pytest.raises(EnvironmentProblem, match=r"^4 workers ended .*\(killing\).*kept$"):
        run(Pass("killing", 1, killing, (), {"kills": str(kills)}))
    assert kills.read_text() == "5"


@pytest.mark.minutes
def test_three_killed_workers_change_nothing(run: Run, tmp_path: Path, cache: Cache) -> None:
    kills = tmp_path / "kills"
    kills.write_text("3")
    work = Pass("killing", 1, killing, (), {"kills": str(kills)})
    run(work)
    assert cache.get(work.key) == {"left": 0}


# ----------------------------------------------------------------------------------- interruption


def test_an_interrupted_study_ends_its_passes(
    run: Run, tmp_path: Path, scratch_folder: Path
) -> None:
    note = tmp_path / "note"

    def interrupt() -> None:
        wait_for(note.exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(Pass("endless", 1, endless, (), {"note": str(note)}))
    thread.join()
    process = int(note.read_text())
    wait_for(lambda: not Path(f"/proc/{process}").exists())
    assert list(scratch_folder.iterdir()) == []


# ---------------------------------------------------------------------------------------- choice


def test_choices() -> None:
    assert ClusterChoice.parse("local", 6) == ClusterChoice(None, 6)
    assert ClusterChoice.parse("local:3", 6) == ClusterChoice(None, 3)
    for address in ("tcp://localhost:8786", "localhost:8786"):
        assert ClusterChoice.parse(address, 6).address == address
    for wrong in ("local:", "local:0", "local:x", "local:-1"):
        with pytest.raises(UsageError, match=f"--cluster {wrong}: needs a number"):
            ClusterChoice.parse(wrong, 6)
