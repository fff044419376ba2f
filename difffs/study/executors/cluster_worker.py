"""What a worker of a cluster does: find the images, make the pass in a process, keep its result.

Dask imports this module by its name in the workers' processes, and everything that it calls here
takes plain values: a worker with another difffs has to be able to say so.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from distributed import get_worker

from difffs.errors import DifffsError, EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study.cache import Cache
from difffs.study.corpus import Image
from difffs.study.executors.pass_process import ProcessEnded, make_in_process, pickled
from difffs.study.image_finder import FOLDERS_VARIABLE, ImageFinder, shared_file
from difffs.study.installation import difference
from difffs.study.passes import Pass
from difffs.study.worker import leave_signals_to_parent

_ROOM = 1.25
"""Of a pass's images: what its folder has to have room for."""


@dataclass(frozen=True, slots=True)
class Task:
    """A pass, and where its result goes."""

    work: Pass
    cache: Cache
    scratch: Path
    """The study's folder, on its machine."""


def examine(installation: Mapping[str, str], mark: str) -> str:
    """Return what is wrong with this worker, with the remedy, or nothing. `mark` is a file that the
    study has put into its cache's folder."""
    if other := difference(installation):
        return f"has {other}: install the same difffs on all"
    if not os.path.exists(mark):
        return f"does not see the folder {os.path.dirname(mark)}: name one that all share (--cache)"
    return ""


def run_task(installation: Mapping[str, str], mark: str, study: str, task: bytes) -> bytes:
    """Make a pass; return the exception that ended it, pickled, or nothing. What the client sees
    raised is then Dask's own."""
    try:
        if problem := examine(installation, mark):
            raise EnvironmentProblem(f"{_this_worker()} {problem}")
        return _make(_unpickled(task), study)
    except Exception as error:
        return pickled(error)


def end_passes(study: str) -> None:
    """End the processes of a study that nobody waits for any more, and start none for it."""
    with _lock:
        _ended.add(study)
        for of_study, process in _running:
            if of_study == study:
                process.terminate()


def dask_setup(_worker: object) -> None:
    """Called by workers that have this module preloaded: those of the study's own cluster, to which
    a terminal sends the signals that are meant for the study."""
    leave_signals_to_parent()


_finder = ImageFinder.of_environment()
_running: list[tuple[str, subprocess.Popen[bytes]]] = []
_ended: set[str] = set()
_lock = threading.Lock()


def _this_worker() -> str:
    return f"worker {get_worker().address} ({socket.gethostname()})"


def _unpickled(task: bytes) -> Task:
    try:
        found = pickle.loads(task)
    except (ImportError, AttributeError) as error:
        raise EnvironmentProblem(
            f"{_this_worker()} does not find what the study calls: {error}; set its PYTHONPATH"
        ) from None
    assert isinstance(found, Task)
    return found


def _make(task: Task, study: str) -> bytes:
    work = task.work
    if task.cache.get(work.key) is not None:
        return b""  # a worker that is gone now has made it, or another study
    work = replace(work, images=tuple(_found(image, task.cache) for image in work.images))
    scratch = _room(work.images, task.scratch)
    try:
        failure = make_in_process(work, task.cache, scratch, partial(_noted, study))
    except ProcessEnded as ended:
        raise EnvironmentProblem(
            f"{_this_worker()}: the process of a pass ({work.name}) ended with {ended.how};"
            " if memory was short, give the worker fewer threads, or name a --scratch on a disk:"
            " what was found so far is kept"
        ) from None
    return failure and _placed(failure)


@contextmanager
def _noted(study: str, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process that end_passes() ends."""
    with _lock:
        _running.append((study, process))
        if study in _ended:
            process.terminate()
    try:
        yield
    finally:
        with _lock:
            _running.remove((study, process))


def _placed(failure: bytes) -> bytes:
    """Say where, to a person who may have to go there."""
    error = pickle.loads(failure)
    if isinstance(error, DifffsError):
        error.args = (f"{error} ({_this_worker()})",)
    return pickle.dumps(error)


def _found(image: Image, cache: Cache) -> Image:
    path = _finder.find(image, cache.folder)
    if path is None:
        raise EnvironmentProblem(
            f"{_this_worker()} has no image {image.name} (SHA-256 {image.sha256}): neither as"
            f" {image.path}, nor in its {FOLDERS_VARIABLE}, nor as"
            f" {shared_file(cache.folder, image)}, where --share-images puts it"
        )
    return replace(image, path=path)


def _room(images: Sequence[Image], scratch: Path) -> Path:
    """The study's folder where this is its machine, or a place like it: the first with room."""
    needed = _ROOM * PAGE_SIZE * sum(image.pages for image in images)
    places = (scratch, scratch.parent, Path(tempfile.gettempdir()))
    free = {place: shutil.disk_usage(place).free for place in places if place.is_dir()}
    return next(
        (place for place, room in free.items() if room >= needed), max(free, key=free.__getitem__)
    )
