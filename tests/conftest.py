"""For all tests: a warning that nobody expected fails the test, and none of them lasts for ever,
but how long an example takes is no matter: machines may be slow, or have other work.

A test that is still running after ``timeout`` seconds (pyproject.toml, or its own mark) fails by
an exception in the main thread, and the others go on. That reaches neither a system call that a
FUSE daemon does not answer (of all signals only deadly ones end that) nor native code. A while
later a watchdog that needs neither therefore prints where all threads are, and ends the whole run.
"""

import faulthandler
import logging
import os
import re
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

# What a test that was told to end has for its fixtures.
GRACE_SECONDS = float(os.environ.get("DIFFFS_TEST_GRACE", "60"))
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")
_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Declare our own marker; keep the stderr that no test captures."""
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    config.addinivalue_line(
        "markers",
        "expected_log(pattern): warnings and errors of the logger 'difffs' that match the regular "
        "expression are expected, at least one of them",
    )


def _seconds(item: pytest.Item) -> float:
    """Return the time that a test has; 0 is for ever."""
    mark = item.get_closest_marker("timeout")
    if mark is not None:
        return float(mark.args[0] if mark.args else mark.kwargs["timeout"])
    chosen = item.config.getoption("--timeout")
    return float(item.config.getini("timeout") if chosen is None else chosen)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End the run when a test outlives its time by ``GRACE_SECONDS``."""
    seconds = _seconds(item)
    if seconds > 0 and not item.config.getoption("usepdb"):
        faulthandler.dump_traceback_later(
            seconds + GRACE_SECONDS, exit=True, file=item.config.stash[_STDERR]
        )
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def no_unexpected_log(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Fail the test when difffs logged a warning or worse that it did not announce."""
    patterns = [
        str(mark.args[0]) for mark in request.node.iter_markers("expected_log") if mark.args
    ]
    yield
    logged = [
        record.getMessage()
        for phase in ("setup", "call", "teardown")
        for record in caplog.get_records(phase)
        if record.levelno >= logging.WARNING and record.name.split(".")[0] == "difffs"
    ]
    unexpected = [
        text for text in logged if not any(re.search(pattern, text) for pattern in patterns)
    ]
    assert not unexpected, f"unexpected in the log: {unexpected}"
    for pattern in patterns:
        assert any(re.search(pattern, text) for text in logged), f"not in the log: {pattern}"
