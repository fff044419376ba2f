"""Two seeds of the suite, and that its model sees what it shall see."""

import pytest

from tests.endurance.full_disk.__main__ import kind_of
from tests.endurance.full_disk.model import PAGE, Volume, page_bytes
from tests.endurance.full_disk.trial import try_seed
from tests.integration.small_disks import KINDS, NotHere


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind"), [(2, "tmpfs"), (3, "ext4")])
def test_a_full_disk_gets_usable_again_and_loses_nothing(seed: int, kind: str) -> None:
    try:
        report = try_seed(seed, kind, cycles=1)
    except NotHere as reason:
        pytest.skip(str(reason))
    assert report.refused > 0
    assert report.pages_compared > 10_000
    assert report.certain_when_full > 1000


def test_all_kinds_have_their_turn() -> None:
    assert {kind_of(seed) for seed in range(50)} == set(KINDS)


def test_a_page_that_was_synchronised_is_that_page_only() -> None:
    volume = Volume("v", 4)
    volume.write(1, 7)
    assert volume.fault(1, page_bytes(0)) is None
    volume.synchronized()
    assert volume.fault(1, page_bytes(7)) is None
    assert "which it was" not in str(volume.fault(1, page_bytes(0)))
    volume.write(1, 9)
    assert volume.fault(1, page_bytes(7)) is None
    volume.synchronized()
    assert "7, which it was" in str(volume.fault(1, page_bytes(7)))
    assert volume.fault(2, bytes(PAGE)) is None
    assert volume.certain() == 1


def test_a_page_that_was_refused_stays_uncertain_until_it_is_written_again() -> None:
    volume = Volume("v", 2)
    volume.write(0, 5)
    volume.synchronized()
    volume.write(0, 6)
    volume.refused()
    volume.synchronized()
    assert volume.fault(0, page_bytes(5)) is None
    assert volume.fault(0, page_bytes(6)) is None
    assert volume.fault(0, page_bytes(0)) is not None
    volume.write(0, 8)
    volume.synchronized()
    assert volume.fault(0, page_bytes(6)) is not None
