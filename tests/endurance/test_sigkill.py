"""Some rounds of the suite `sigkill`, and that it can tell a violation."""

from pathlib import Path

import pytest

from tests.endurance import sigkill
from tests.endurance.needs import MARKS
from tests.endurance.report import Report
from tests.integration import harness

pytestmark = [*MARKS, pytest.mark.timeout(900)]


@pytest.mark.slow
def test_daemons_are_killed_at_every_step(tmp_path: Path) -> None:
    """Twenty at least, and once at each call on the files of a commit that a run has met."""
    with harness.folder_in_memory() as folder:
        report = Report("sigkill", 1, tmp_path, quiet=True)
        effort = sigkill.Effort(moment_share=0.1, operations=(15,), delayed_share=0.1)
        sigkill.run(
            report,
            folder,
            20,
            each_point=1,
            positions_count=False,
            steps_only=True,
            effort=effort,
        )
    assert report.is_clean, report.text()
    assert sum(n for name, n in report.counts.items() if name.startswith("killed")) >= 20
    assert report.counts["pages compared"] > 100
    for step in ("payloads:fdatasync", "payloads:punch", "index:fdatasync", "index:meta"):
        assert any(name.startswith(step) for name in report.points), step


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize(
    "sabotage", ["commits_are_forgotten", "sides_are_punched_before_the_commit"]
)
def test_broken_daemons_are_found(tmp_path: Path, sabotage: str) -> None:
    """The suite is worth something: what loses acknowledged data is a violation, and kept."""
    with harness.folder_in_memory() as folder:
        report = Report("sigkill", 1, tmp_path, quiet=True)
        sigkill.run(report, folder, 25, sabotage=sabotage)
    assert report.violations, report.text()
    kept = Path(report.violations[0]["kept"])
    assert (kept / "replay.json").is_file()
    assert (kept / "store" / "format").is_file()
