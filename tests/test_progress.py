"""The progress bar shows what it should, where it should, and when somebody asks."""

import io
import os
import signal
import time
from collections.abc import Callable

import pytest

from difffs import progress as progress_module
from difffs.progress import Progress, told_on_request


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds; fail when it never does."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_short_runs_are_silent_without_a_terminal() -> None:
    stream = io.StringIO()
    with Progress("import", 100, stream) as progress:
        progress.advance(50)
        progress.update(100)
    assert stream.getvalue() == ""
    assert progress.done == 100


def test_drawn_on_a_terminal_and_cleared() -> None:
    stream = Terminal()
    with Progress("import", 100, stream) as progress:
        progress.advance(50)
    text = stream.getvalue()
    assert "import" in text
    assert "50%" in text
    assert text.endswith("\r\x1b[K")


def test_redrawn_at_most_ten_times_a_second() -> None:
    stream = Terminal()
    with Progress("import", 100, stream) as progress:
        for _ in range(50):
            progress.advance(1)
    assert stream.getvalue().count("import") <= 3


def test_line_fits_any_width() -> None:
    progress = Progress("some label", 1 << 40, io.StringIO())
    for done in (0, 1, 1 << 39, 1 << 40, 1 << 41):
        progress.update(done)
        for columns in (20, 40, 80, 200):
            assert len(progress.line(columns)) < columns
    assert "left" in progress.line(80)


def test_unknown_total() -> None:
    progress = Progress("check", 0, io.StringIO())
    progress.update(5 << 20)
    assert "5.00 MiB" in progress.line(80)
    progress.update(5 << 20, 10 << 20)
    assert "50%" in progress.line(80)


def test_other_units_than_bytes() -> None:
    progress = Progress("check", 20_000, io.StringIO(), unit="objects")
    progress.update(10_000)
    assert "10,000 objects" in progress.line(80)


def test_durations() -> None:
    assert progress_module._duration(59.4) == "0:59"
    assert progress_module._duration(61) == "1:01"
    assert progress_module._duration(3661) == "1:01:01"


def test_long_runs_write_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.05)
    stream = io.StringIO()
    with Progress("import", 100 << 20, stream) as progress:
        progress.update(50 << 20)  # and no more: the work waits for something
        wait_for(lambda: stream.getvalue().count("\n") >= 2)
    text = stream.getvalue()
    assert text.startswith("import: 50%, 50.0 MiB of 100 MiB, ")
    assert "\r" not in text
    time.sleep(0.2)
    assert stream.getvalue() == text, "nothing is written any more"


def test_a_terminal_has_its_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.01)
    stream = Terminal()
    with Progress("import", 100, stream) as progress:
        progress.advance(50)
        time.sleep(0.2)
    assert "\n" not in stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_line_comes_when_a_signal_asks(kind: Callable[[], io.StringIO]) -> None:
    stream = kind()
    with told_on_request():
        os.kill(os.getpid(), signal.SIGUSR1)  # of nothing yet
        with Progress("check", 0, stream, unit="objects") as progress:
            progress.update(1234)
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_for(lambda: "check: 1,234 objects, " in stream.getvalue())
        before = stream.getvalue()
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stream.getvalue() == before
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
