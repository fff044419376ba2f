"""The end of a pass's process: with its study, in good order and without a word."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children, connection, parent_process, resource_tracker

from difffs.signals import EndedBySignal, ending_by_exception

_PUT_AWAY_SECONDS = 10.0
"""How long a pass may take to put away what it has begun when its study is gone."""

_LOOK_SECONDS = 0.05


def leave_signals_to_parent() -> None:
    """Ignore what a terminal sends to all processes: the study tells its own to end."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def start_resource_tracker() -> None:
    """Start what multiprocessing keeps beside its processes, deaf to SIGHUP: it complains when a
    terminal that is closed has ended it before the study."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ending_processes() -> Iterator[None]:
    """Tell every process of this one to end, once; also those that a pool starts meanwhile."""
    waited = threading.Event()

    def tell() -> None:
        told: set[int | None] = set()
        while True:
            for process in active_children():
                if process.pid not in told:
                    told.add(process.pid)
                    process.terminate()
            if waited.wait(_LOOK_SECONDS):
                return

    thread = threading.Thread(target=tell, name="end")
    thread.start()
    try:
        yield
    finally:
        waited.set()
        thread.join()


@contextmanager
def ending_with_parent(sentinel: int | None = None) -> Iterator[None]:
    """End this process when SIGTERM comes, or when its parent is gone, after the block has put its
    things away.

    `sentinel` can be read when the parent is gone; for a process of multiprocessing it is known.
    """
    if sentinel is None:
        parent = parent_process()
        if parent is None:  # called by itself
            yield
            return
        sentinel = parent.sentinel
    threading.Thread(target=_watch, args=(sentinel,), name="parent", daemon=True).start()
    try:
        with ending_by_exception():
            yield
    except (KeyboardInterrupt, EndedBySignal):
        # Not as an exception: the study is not listening any more.
        os._exit(128 + signal.SIGTERM)


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PUT_AWAY_SECONDS)
    os._exit(128 + signal.SIGTERM)
