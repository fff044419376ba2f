"""The hour in some seconds, and that its clients and its report see what they shall see."""

import threading
from pathlib import Path
from random import Random

import pytest

from tests.endurance.full_disk.model import PAGE
from tests.endurance.needs import obstacle
from tests.endurance.soak.clients import Client, page_bytes
from tests.endurance.soak.refining import Refined
from tests.endurance.soak.trial import Report, Sample, soak
from tests.integration import harness

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
@pytest.mark.integration
def test_some_seconds_of_it() -> None:
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    with harness.mounted_store() as mounted:
        report = soak(mounted, 15, seed=1, mebibytes=32, pages_a_second=4000)
    assert report.faults == []
    assert report.kills >= 2
    assert min(report.written, report.discarded, report.synchronised) > 0
    assert report.compared >= report.kills * (32 << 20) // PAGE
    assert report.samples
    assert {each.life for each in report.samples} <= set(range(report.kills))


@pytest.mark.slow
@pytest.mark.integration
def test_some_seconds_of_it_while_it_is_refined() -> None:
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    with harness.mounted_store() as mounted:
        report = soak(mounted, 15, seed=2, mebibytes=8, pages_a_second=1000, tier="cold")
    assert report.faults == []
    assert report.kills >= 2
    refined = report.refined
    assert refined is not None
    assert refined.passes > 0
    assert refined.members > 0
    assert min(refined.bytes["payload"], refined.fresh["payload"]) > 0


def test_a_store_that_is_much_larger_than_a_fresh_one_is_a_fault() -> None:
    report = Report(
        1, 3600, refined=Refined("cold", bytes={"stored": 1100}, fresh={"stored": 1000})
    )
    report.judge()
    assert report.faults == []
    report.refined = Refined("cold", bytes={"stored": 1101}, fresh={"stored": 1000})
    report.judge()
    assert len(report.faults) == 1


def test_a_page_that_is_lost_or_another_is_a_fault(tmp_path: Path) -> None:
    client = Client("v0", 64, Random(1), 1e9)
    stop = threading.Event()
    worker = threading.Thread(target=client.work, args=(tmp_path, stop))
    worker.start()
    while client.synchronised < 20:
        stop.wait(0.001)
    stop.set()
    worker.join()
    client.look(tmp_path)
    assert client.faults == []
    file = tmp_path / "v0"
    right = file.read_bytes()
    page = next(at for at in range(64) if any(right[at * PAGE : (at + 1) * PAGE]))
    for other in (bytes(PAGE), page_bytes(1 << 40)):
        file.write_bytes(right[: page * PAGE] + other + right[(page + 1) * PAGE :])
        client.look(tmp_path)
        assert f"page {page}" in client.faults.pop()
    file.unlink()
    client.look(tmp_path)
    assert client.faults


def test_slack_and_growth_are_judged() -> None:
    report = Report(1, 3600)
    for at in range(0, 3600, 10):
        memory = 100 << 20 if at < 1800 else (100 << 20) + at
        report.samples.append(Sample(at, 0, 1000, 600 if at < 60 else 90, 300, 10, memory, 0))
    report.judge()
    assert report.faults == []
    report.samples.append(Sample(3599, 0, 1000, 101, 101, 10, 106 << 20, 0))
    report.judge()
    assert len(report.faults) == 2
