"""The progress bar shows what it should, and only to a terminal."""

import io

from difffs import progress as progress_module
from difffs.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_silent_without_a_terminal() -> None:
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
