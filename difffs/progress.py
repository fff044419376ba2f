"""A progress bar on the terminal; nothing at all where there is none."""

import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from difffs.size import format_size

_INTERVAL_SECONDS = 0.1


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

    Used as a context manager; the line is cleared at the end, so that a result can follow. When
    ``stream`` is not a terminal, nothing is written.
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
        self._write(self.line(shutil.get_terminal_size().columns))

    def line(self, columns: int) -> str:
        """Return the bar as it looks on a terminal of that width."""
        elapsed = max(self.seconds, 1e-6)
        rate = self.done / elapsed
        if self._unit:
            tail = f"{_count(self.done)} {self._unit}  {_count(rate)}/s"
        else:
            tail = f"{format_size(self.done)}  {format_size(rate)}/s"
        if self._total <= 0:
            return f"{self._label}  {tail}"[: columns - 1]
        part = min(1.0, self.done / self._total)
        remaining = (self._total - self.done) / rate if rate else 0.0
        tail = f"{part:4.0%}  {tail}  {_duration(max(0.0, remaining))} left"
        width = columns - len(self._label) - len(tail) - 7
        if width < 8:
            return f"{self._label}  {tail}"[: columns - 1]
        filled = int(part * width)
        return f"{self._label}  [{'#' * filled}{'.' * (width - filled)}]  {tail}"

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clear the line."""
        if self._shown and self._drawn:
            self._write("")
