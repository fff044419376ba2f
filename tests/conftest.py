"""For all tests: a warning that nobody expected fails the test."""

import logging
import re
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Declare our own marker."""
    config.addinivalue_line(
        "markers",
        "expected_log(pattern): warnings and errors of the logger 'difffs' that match the regular "
        "expression are expected, at least one of them",
    )


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
