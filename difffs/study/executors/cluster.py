"""Passes on a Dask cluster: each is a task, whose result a worker puts into the cache's folder.
All share that; through the scheduler goes what is to be done, and that it is done.
"""

from __future__ import annotations

import gc
import logging
import pickle
import queue
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from distributed import Client, Future, KilledWorker, LocalCluster

import difffs
from difffs.errors import EnvironmentProblem, UsageError
from difffs.signals import EndedBySignal
from difffs.standard_streams import output_problem
from difffs.study.cache import Cache
from difffs.study.executors import cluster_worker
from difffs.study.executors.cluster_worker import Task
from difffs.study.installation import installation
from difffs.study.machine import describe_machine
from difffs.study.passes import Pass
from difffs.study.worker import start_resource_tracker

CONNECT_SECONDS = 10
WORKER_SECONDS = 60
"""How long a cluster may be without any worker."""

_LOOK_SECONDS = 2.0
_ARRIVAL_SECONDS = 60.0
"""A network file system shows a file that another host has made after a while."""

_END_SECONDS = 5

_KEPT = "what was found so far is kept"


@dataclass(frozen=True, slots=True)
class ClusterChoice:
    """Which cluster: that of a scheduler's address, or one of this machine's own for this study."""

    address: str | None
    workers: int

    @classmethod
    def parse(cls, text: str, cores: int) -> ClusterChoice:
        """Read ADDRESS, ``local`` or ``local:N``; UsageError."""
        kind, colon, number = text.partition(":")
        if kind != "local":
            return cls(text, 0)
        if not colon:
            return cls(None, cores)
        if not number.isdecimal() or not int(number):
            raise UsageError(f"--cluster {text}: needs a number from 1 on, as in local:4")
        return cls(None, int(number))


@contextmanager
def connected(choice: ClusterChoice, cache: Cache, scratch: Path) -> Iterator[DaskCluster]:
    """Yield an executor on the cluster. EnvironmentProblem where it cannot be reached, or has no
    workers, or such as cannot make this study's passes.
    """
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised
    with _mark_in(cache.folder) as mark:
        if choice.address is None:
            with _own_cluster(choice.workers, scratch) as cluster, _client(cluster) as client:
                yield DaskCluster(client, mark)
            return
        try:
            client = _client(choice.address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError, ImportError) as error:
            raise EnvironmentProblem(
                f"no scheduler at {choice.address} ({error}): start one with `dask scheduler`, and"
                " name the address that it tells"
            ) from None
        with client:
            executor = DaskCluster(client, mark)
            executor.require_workers()
            yield executor


def _client(*where: Any, **options: Any) -> Client:
    """Make a client. One that could not be made closes itself when it is collected, and waits for a
    lock that is held while the next one is made: so nothing is collected within that.
    """
    gc.collect()
    collects = gc.isenabled()
    gc.disable()
    try:
        return Client(*where, **options)
    finally:
        if collects:
            gc.enable()


@contextmanager
def _mark_in(folder: Path) -> Iterator[Path]:
    """A file by which workers know the folder."""
    mark = folder / f".study-{uuid.uuid4().hex}"
    try:
        mark.touch()
    except OSError as error:
        raise output_problem(str(folder), error) from None
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


@contextmanager
def _own_cluster(workers: int, scratch: Path) -> Iterator[LocalCluster]:
    start_resource_tracker()
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        # passes have processes of their own: what a worker itself takes need not be watched
        memory_limit=None,
        # any free port: with None it is 8787 all the same, and a warning where that is in use
        dashboard_address="127.0.0.1:0",
        local_directory=str(scratch),
        preload=[cluster_worker.__name__],
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


class DaskCluster:
    """An Executor."""

    def __init__(self, client: Client, mark: Path) -> None:
        """Use a client; `mark` is a file in the cache's folder that workers have to see."""
        self._client = client
        self._study = uuid.uuid4().hex
        self._expected = (dict(installation()), str(mark))

    # ---- workers -----------------------------------------------------------------------------

    def require_workers(self) -> None:
        """EnvironmentProblem when there is no worker, or one cannot make this study's passes."""
        try:
            self._client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            self._no_workers()
        versions = self._ask(metadata.version, "difffs")  # that needs no difffs there
        for worker, version in versions.items():
            if version != difffs.__version__:
                raise EnvironmentProblem(
                    f"worker {worker} has difffs {version}, and not {difffs.__version__}:"
                    " install the same on all, with difffs[cluster]"
                )
        for worker, problem in self._ask(cluster_worker.examine, *self._expected).items():
            if problem:
                raise EnvironmentProblem(f"worker {worker} {problem}")

    def machines(self) -> list[dict[str, Any]]:
        """Return the machines that workers are on, each with its number of `workers`."""
        try:
            answers = self._client.run(describe_machine, on_error="return")
        except OSError:
            answers = {}  # gone, when nothing is left to be done: no reason to lose the report
        found = {repr(one): one for one in answers.values() if isinstance(one, dict)}
        counts = Counter(map(repr, answers.values()))
        return [{**found[name], "workers": counts[name]} for name in sorted(found)]

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Call a function in each worker. Those that go away meanwhile are left out."""
        answers = self._client.run(function, *arguments, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):
                raise EnvironmentProblem(
                    f"worker {worker} cannot take part ({type(answer).__name__}: {answer}):"
                    f" install difffs[cluster] {difffs.__version__} there"
                )
        return {worker: one for worker, one in answers.items() if not isinstance(one, OSError)}

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except OSError:
            return False  # no scheduler either: the futures will say so

    def _no_workers(self) -> NoReturn:
        raise EnvironmentProblem(
            f"{self._address} has had no worker for {WORKER_SECONDS} s: start some with"
            f" `dask worker {self._address}`; {_KEPT}"
        )

    @property
    def _address(self) -> str:
        scheduler: Any = self._client.scheduler
        return str(scheduler.address)

    # ---- passes ------------------------------------------------------------------------------

    def run(
        self, passes: Sequence[Pass], cache: Cache, scratch: Path, done: Callable[[Pass], None]
    ) -> None:
        """As Executor.run()."""
        for alone in (False, True):
            chosen = [work for work in passes if work.alone is alone]
            if chosen:
                self._run(chosen, cache, scratch, done)

    def _run(
        self, passes: Sequence[Pass], cache: Cache, scratch: Path, done: Callable[[Pass], None]
    ) -> None:
        finished: queue.SimpleQueue[Future[bytes]] = queue.SimpleQueue()
        waiting: dict[object, tuple[Future[bytes], Pass]] = {}
        try:
            for work in passes:
                future = self._submit(Task(_with_absolute_paths(work), cache, scratch))
                waiting[future.key] = future, work
                future.add_done_callback(finished.put)
            seen = time.monotonic()
            while waiting:
                try:
                    future = finished.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    if self._has_workers():
                        seen = time.monotonic()
                    elif time.monotonic() - seen > WORKER_SECONDS:
                        self._no_workers()
                    continue
                work = waiting[future.key][1]
                if cache.get(work.key) is None:
                    self._raise_failure(future, work)
                    _await_arrival(cache, work)
                done(work)
                waiting.pop(future.key)[0].release()
                seen = time.monotonic()
        except BaseException as error:
            self._give_up([future for future, _work in waiting.values()], error)
            raise

    def _submit(self, task: Task) -> Future[bytes]:
        work = task.work
        return self._client.submit(
            cluster_worker.run_task,
            *self._expected,
            self._study,
            pickle.dumps(task),
            # A new one each time: another study's may be for another folder, and one that has been
            # cancelled just now may cancel what comes after it under that key.
            key=f"{work.name}-{uuid.uuid4().hex}",
        )

    def _raise_failure(self, future: Future[bytes], work: Pass) -> None:
        if future.status == "finished":
            if failure := future.result():
                raise pickle.loads(failure)
            return
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            raise EnvironmentProblem(
                f"{error.allowed_failures + 1} workers ended while they made a pass ({work.name}),"
                f" the last was {error.last_worker.address}: look into what they said; {_KEPT}"
            )
        if error is not None:
            raise EnvironmentProblem(
                f"a worker cannot take part ({type(error).__name__}: {error}):"
                f" install difffs[cluster] {difffs.__version__} on all"
            )
        raise EnvironmentProblem(f"the scheduler at {self._address} has gone; {_KEPT}")

    def _give_up(self, futures: Sequence[Future[bytes]], error: BaseException) -> None:
        """Leave to others what has not begun; what has is ended when the study is interrupted, and
        otherwise goes on into the cache."""
        with suppress(Exception):  # the cluster may be what is wrong
            self._client.cancel(list(futures))
            if isinstance(error, KeyboardInterrupt | EndedBySignal):
                self._client.sync(
                    self._client._run,
                    cluster_worker.end_passes,
                    self._study,
                    on_error="return",
                    callback_timeout=_END_SECONDS,
                )


def _with_absolute_paths(work: Pass) -> Pass:
    return replace(
        work,
        images=tuple(replace(image, path=image.path.absolute()) for image in work.images),
    )


def _await_arrival(cache: Cache, work: Pass) -> None:
    end = time.monotonic() + _ARRIVAL_SECONDS
    while cache.get(work.key) is None:
        if time.monotonic() > end:
            raise EnvironmentProblem(
                f"{cache.folder} does not show a result that a worker has put there: name a folder"
                " that all share (--cache)"
            )
        time.sleep(0.1)
