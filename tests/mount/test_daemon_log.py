"""The daemon's log: where it goes, how long it gets, and that it can fail without harm."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.mount import daemon_log

log = logging.getLogger("difffs.test")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the logging of this process as it was."""
    monkeypatch.setattr(daemon_log, "_SYSLOG_SOCKET", "/nowhere/log")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logger = logging.getLogger("difffs")
    level, handlers = logger.level, list(logger.handlers)
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_into_the_store(tmp_path: Path) -> None:
    daemon_log.log_to_files(tmp_path, read_only=False)
    assert not (tmp_path / "log").exists(), "nothing logged, nothing written"
    log.info("one")
    log.debug("two")
    text = (tmp_path / "log").read_text()
    assert text.endswith("INFO one\n")
    assert "two" not in text


def test_never_into_a_store_that_is_only_read(tmp_path: Path) -> None:
    daemon_log.log_to_files(tmp_path, read_only=True)
    log.info("one")
    assert list(tmp_path.iterdir()) == []


def test_the_log_stays_short(tmp_path: Path) -> None:
    daemon_log.log_to_files(tmp_path, read_only=False)
    for number in range(9000):
        log.info("line %d %s", number, "x" * 60)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert all(size <= 256 << 10 for size in sizes)


def test_a_log_that_cannot_be_written_does_no_harm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon_log.log_to_files(tmp_path / "missing", read_only=False)
    log.info("one")
    assert capsys.readouterr().err == ""


def test_onto_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    daemon_log.log_to_terminal()
    log.info("mounted")
    assert capsys.readouterr().err == "difffs: mounted\n"
