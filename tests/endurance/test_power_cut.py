"""Some states of the suite `power-cut`, and that it sees the order of writes."""

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.endurance import power_cut
from tests.endurance.interposer import Action, Rule
from tests.endurance.needs import MARKS
from tests.endurance.report import Report
from tests.integration import harness

pytestmark = [*MARKS, pytest.mark.timeout(900)]


def cut(tmp_path: Path, states: int, rules: Sequence[Rule] = (), sabotage: str = "") -> Report:
    """So many states of all three workloads."""
    report = Report("power-cut", 1, tmp_path, quiet=True)
    with harness.folder_in_memory() as folder:
        power_cut.run(
            report, folder, states, rules=rules, sabotage=sabotage, states_a_run=-(-states // 3)
        )
    return report


@pytest.mark.slow
def test_fifty_states_of_three_workloads(tmp_path: Path) -> None:
    report = cut(tmp_path, 50)
    assert report.is_clean, report.text()
    assert report.rounds == 50
    assert {name for name in report.counts if name.startswith("states of")} == {
        f"states of {workload.name}" for workload in power_cut.WORKLOADS
    }
    assert report.counts["blocks and names that might have been otherwise"] > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        "payloads:fdatasync",
        pytest.param("index:fdatasync", marks=pytest.mark.minutes),
        pytest.param("index:meta", marks=pytest.mark.minutes),
    ],
)
def test_a_synchronising_call_that_is_missing_is_found(tmp_path: Path, point: str) -> None:
    """With any of the three that a commit makes taken out, acknowledged data is lost."""
    report = cut(tmp_path, 12, rules=[power_cut.swallowed(point)])
    assert report.violations, report.text()


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize(
    "sabotage", ["payloads_follow_the_index", "sides_are_punched_before_the_commit"]
)
def test_another_order_of_a_commits_steps_is_found(tmp_path: Path, sabotage: str) -> None:
    report = cut(tmp_path, 36, sabotage=sabotage)
    assert report.violations, report.text()


@pytest.mark.slow
@pytest.mark.minutes
def test_a_second_answer_that_is_believed_is_found(tmp_path: Path) -> None:
    """After a synchronising call that failed, what waited then may never reach the medium."""
    failing = Rule("payloads:fdatasync", Action.FAIL, 1, error=errno.EIO)
    assert cut(tmp_path, 36, rules=[failing]).is_clean
    report = cut(tmp_path, 36, [failing], "failed_synchronising_is_asked_again")
    assert report.violations, report.text()
