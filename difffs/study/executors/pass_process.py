"""A pass in a process of its own that a worker of a cluster starts.

Not one of multiprocessing: workers are daemonic most often, and those may not start any.
What it is to do comes on stdin, whose end is that of the worker; it answers on a pipe with nothing,
or with the exception that ended the pass.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from difffs.study.cache import Cache
from difffs.study.passes import Pass, make
from difffs.study.worker import ending_with_parent, leave_signals_to_parent

_Process = subprocess.Popen[bytes]


class ProcessEnded(Exception):
    """The process of a pass ended without an answer."""

    def __init__(self, code: int) -> None:
        """Keep how."""
        super().__init__(code)
        self.how = signal.Signals(-code).name if code < 0 else f"exit code {code}"


def make_in_process(
    work: Pass,
    cache: Cache,
    scratch: Path,
    noted: Callable[[_Process], AbstractContextManager[None]],
) -> bytes:
    """Make a pass; return the exception that ended it, pickled, or nothing.

    The process is `noted` while there is one. ProcessEnded when something killed it.
    """
    reading, writing = os.pipe()
    with open(reading, "rb") as answer:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(writing,),
            )
        finally:
            os.close(writing)
        with process, noted(process):
            assert process.stdin is not None
            try:
                # functions are found by name: in the modules that this process finds
                process.stdin.write(pickle.dumps(sys.path) + pickle.dumps((work, cache, scratch)))
                process.stdin.flush()
            except BrokenPipeError:
                pass  # it has ended
            failure = answer.read()
            process.wait()
    if process.returncode:
        raise ProcessEnded(process.returncode)
    return failure


@contextmanager
def _sharing_host(alone: bool) -> Iterator[None]:
    """Keep what wants to be alone on this host apart from all other passes of clusters."""
    folder = Path("/dev/shm")
    path = (folder if folder.is_dir() else Path(tempfile.gettempdir())) / (
        f"difffs-study-{os.geteuid()}.lock"
    )
    # not removed at the end: others may wait for it
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)


def pickled(error: Exception) -> bytes:
    """Return the exception, with where it came from as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        whole = pickle.dumps(error)
        pickle.loads(whole)  # some can be written only
    except Exception:
        return pickle.dumps(RuntimeError(*error.__notes__))
    return whole


def main() -> None:
    """What the process does."""
    leave_signals_to_parent()
    source = sys.stdin.buffer
    sys.path[:] = pickle.load(source)
    work, cache, scratch = pickle.load(source)
    failure = b""
    with ending_with_parent(source.fileno()):
        try:
            with _sharing_host(work.alone):
                make(work, cache, scratch)
        except Exception as error:
            failure = pickled(error)
    with open(int(sys.argv[1]), "wb") as answer:
        answer.write(failure)


if __name__ == "__main__":
    main()
