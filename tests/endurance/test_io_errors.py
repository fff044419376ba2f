"""A sample of the suite `io-errors`, and that it can tell a violation."""

from pathlib import Path

import pytest

from tests.endurance import io_errors
from tests.endurance.interposer import Action
from tests.endurance.needs import MARKS
from tests.endurance.report import Report
from tests.integration import harness

pytestmark = [*MARKS, pytest.mark.timeout(900)]


@pytest.mark.slow
def test_a_sample_of_calls_fails(tmp_path: Path) -> None:
    with harness.folder_in_memory() as folder:
        report = Report("io-errors", 1, tmp_path, quiet=True)
        io_errors.run(report, folder, 9)
    assert report.is_clean, report.text()
    assert report.rounds == 9  # three of each workload
    assert report.counts["calls that failed"] >= 5


@pytest.mark.slow
@pytest.mark.minutes
def test_an_error_that_is_ignored_is_found(tmp_path: Path) -> None:
    """Here all payloads that were to be written are not, and nobody was told."""
    with harness.folder_in_memory() as folder:
        report = Report("io-errors", 1, tmp_path, quiet=True)
        io_errors.run_one(
            report,
            folder,
            "payloads:pwrite",
            io_errors.Fault(Action.FAIL, 5, for_ever=True),
            sabotage="failed_writing_is_forgotten",
        )
    assert report.violations, report.text()
