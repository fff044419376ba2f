"""Three rounds of the hundred, and that what is left is judged."""

from dataclasses import replace

import pytest

from tests.endurance.swap.__main__ import obstacle
from tests.endurance.swap.trial import Look, Report, Round, try_round
from tests.integration import harness

MEBIBYTES, RESIDENT = 96, 40


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_rounds() -> None:
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    report = Report()
    with harness.folder_in_memory() as folder:
        for number in (1, 2, 3):
            report.add(try_round(folder / "store", number, MEBIBYTES, RESIDENT))
    assert report.faults == []
    for one in report.rounds:
        assert one.verified == 3 * (MEBIBYTES << 20) // 4096
        assert one.left.pages < one.full.pages
        assert one.after < one.full.stored // 10
    assert report.text().startswith("swap: 3 rounds")


EMPTY = Look(1, 60, 4036, 1_000_000)
FULL = Look(20_001, 20_000_060, 1_004_036, 2_000_000)


def round_with(left: Look, in_use: int) -> Round:
    """A round that ended so, judged."""
    one = Round(1, EMPTY, FULL, left, in_use, 1 << 27, 98_304, 300_000, 5.0)
    one.judge(40 << 20)
    return one


def test_what_is_left_is_judged() -> None:
    emptied = replace(EMPTY, metadata=2_000_000)
    assert round_with(emptied, 0).faults == []
    assert round_with(emptied, 0).left_share == 0
    assert round(round_with(emptied, 0).metadata_share, 3) == 0.045
    assert "nobody uses" in round_with(replace(emptied, pages=2), 0).faults[0]
    shared = round_with(replace(emptied, pages=900, payload=900_000), 400)
    assert (shared.held, shared.faults) == (499, [])
    assert "nobody uses" in round_with(replace(emptied, pages=515), 1).faults[0]
    assert "of payloads" in round_with(replace(emptied, payload=2_000_000), 0).faults[0]
    tried_nothing = round_with(emptied, 0)
    tried_nothing.judge(1 << 30)
    assert "tried nothing" in tried_nothing.faults[0]
