"""Signals that ask a command to end: an exception, so that what it has begun is put away."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAME_SECONDS = 0.5
"""timeout(1), and a shell whose terminal is closed, send a signal twice and mean one."""


class EndedBySignal(BaseException):
    """SIGTERM or SIGHUP has come; as KeyboardInterrupt is for SIGINT."""

    def __init__(self, number: int) -> None:
        """Keep which one."""
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def ending_by_exception() -> Iterator[None]:
    """Raise KeyboardInterrupt or EndedBySignal in the block at the first signal that asks to end.

    A second one ends the process at once. Signals that are ignored, as under nohup, or that
    somebody else handles, stay as they are.
    """
    first = 0.0

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not first:
            first = now
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise EndedBySignal(number)
        if now - first > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    with handled(end, *_ENDING):
        yield


@contextmanager
def handled(handler: "signal._HANDLER", *numbers: signal.Signals) -> Iterator[None]:
    """Handle those of the signals that nobody ignores or handles; only in the main thread."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            found = signal.getsignal(number)
            if found in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = found
                signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
