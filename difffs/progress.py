"""A progress bar on the terminal; without one a line now and then, and when SIGUSR1 asks for it."""

import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self, TextIO

from difffs.signals import handled
from difffs.size import format_size

_INTERVAL_SECONDS = 0.1

LINE_SECONDS = 10.0
"""Seconds between the lines where there is no terminal; shorter runs write none."""

_STOP_SECONDS = 1.0
"""How long the end waits for a line that nobody takes."""

_running: "list[Progress]" = []


@contextmanager
def told_on_request() -> Iterator[None]:
    """Have every Progress of the block write a line when SIGUSR1 comes; without one, ignore it."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        for progress in list(_running):
            progress.ask()

    with handled(ask, signal.SIGUSR1):
        yield


def _duration(seconds: float) -> str:
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, seconds_left = divmod(rest, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds_left:02}"
    return f"{minutes}:{seconds_left:02}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


class Progress:
    """Counts bytes, or other things, towards ``total`` and shows how far that is.

    Used as a context manager; a terminal's bar is cleared at the end, so that a result can follow.
    Lines are written by a thread, so that they come also while the work waits for something.
    """

    def __init__(
        self, label: str, total: int, stream: TextIO | None = None, unit: str = ""
    ) -> None:
        """Prepare a bar on ``stream``, by default stderr.

        ``total`` is in bytes, or in ``unit`` when that is given; 0 is unknown.
        """
        self._label = label
        self._unit = unit
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._started = time.monotonic()
        self._drawn = 0.0
        self._lock = threading.Lock()
        self._wake = -1
        self._thread: threading.Thread | None = None
        self.done = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def advance(self, count: int) -> None:
        """Say that ``count`` more are done."""
        self.done += count
        self._draw()

    def update(self, done: int, total: int | None = None) -> None:
        """Say that ``done`` in all are done, of ``total``."""
        self.done = done
        if total is not None:
            self._total = total
        self._draw()

    def _draw(self) -> None:
        if not self._shown:
            return
        now = time.monotonic()
        if now - self._drawn < _INTERVAL_SECONDS:
            return
        self._drawn = now
        self._redraw(self.line(shutil.get_terminal_size().columns))

    def _rate(self) -> float:
        return self.done / max(self.seconds, 1e-6)

    def _amount(self, number: float) -> str:
        return f"{_count(number)} {self._unit}" if self._unit else format_size(number)

    def _tail(self, rate: float) -> str:
        return f"{_count(rate)}/s" if self._unit else f"{format_size(rate)}/s"

    def _left(self, rate: float) -> str:
        remaining = (self._total - self.done) / rate if rate else 0.0
        return f"{_duration(max(0.0, remaining))} left"

    def line(self, columns: int) -> str:
        """Return the bar as it looks on a terminal of that width."""
        rate = self._rate()
        tail = f"{self._amount(self.done)}  {self._tail(rate)}"
        if self._total <= 0:
            return f"{self._label}  {tail}"[: columns - 1]
        part = min(1.0, self.done / self._total)
        tail = f"{part:4.0%}  {tail}  {self._left(rate)}"
        width = columns - len(self._label) - len(tail) - 7
        if width < 8:
            return f"{self._label}  {tail}"[: columns - 1]
        filled = int(part * width)
        return f"{self._label}  [{'#' * filled}{'.' * (width - filled)}]  {tail}"

    def report(self) -> str:
        """Return the line for where there is no terminal."""
        rate = self._rate()
        if self._total <= 0:
            return f"{self._label}: {self._amount(self.done)}, {self._tail(rate)}"
        part = min(1.0, self.done / self._total)
        return (
            f"{self._label}: {part:.0%}, {self._amount(self.done)} of {self._amount(self._total)}, "
            f"{self._tail(rate)}, {self._left(rate)}"
        )

    def _redraw(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    # ---- lines -------------------------------------------------------------------------------

    def ask(self) -> None:
        """Have a line written now. May be called from a signal's handler."""
        os.eventfd_write(self._wake, 1)

    def _write_lines(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        due = self._started + LINE_SECONDS
        while True:
            seconds = max(0.0, due - time.monotonic())
            if poll.poll(None if self._shown else seconds * 1000):
                os.eventfd_read(self._wake)
                if self not in _running:
                    return
            else:
                due += LINE_SECONDS
            with self._lock:
                clear = "\r\x1b[K" if self._shown else ""
                self._stream.write(f"{clear}{self.report()}\n")
                self._stream.flush()

    def start(self) -> None:
        """Begin; for whoever cannot use ``with``."""
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._write_lines, name="progress", daemon=True)
        _running.append(self)
        self._thread.start()

    def stop(self) -> None:
        """Clear the terminal's line and write no more."""
        if self._thread is not None:
            _running.remove(self)
            self.ask()
            self._thread.join(_STOP_SECONDS)
            if not self._thread.is_alive():
                os.close(self._wake)
            self._thread = None
        if self._shown and self._drawn:
            self._redraw("")

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()
