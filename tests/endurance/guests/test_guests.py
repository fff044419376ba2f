"""One process beside the guests, and that a guest that does not count well is seen."""

import subprocess
from pathlib import Path

import pytest
from trial.guest import CHECKOUT, Guest, GuestError

from tests.endurance.guests.__main__ import obstacle
from tests.endurance.guests.trial import GUESTS, HOG_MEBIBYTES, try_guests, verify_counting
from tests.integration import harness


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_guests_and_swap_share_a_store() -> None:
    subprocess.run([CHECKOUT / "scripts" / "make-guest"], check=False, capture_output=True)
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    with harness.folder_in_memory() as folder:
        mounted = harness.Mounted(folder)
        try:
            report = try_guests(mounted, 1)
        finally:
            if mounted.path.is_mount():
                subprocess.run(harness.unmount_command(mounted.path, lazy=True), check=True)
    assert report.faults == []
    assert len(report.ticks) == GUESTS
    assert min(report.ticks) >= 2
    assert report.hog_pages >= 4 * (HOG_MEBIBYTES << 20) // 4096
    assert report.swapped > 32 << 20
    assert report.written > report.logical > report.stored > 0


class ConsoleOnly(Guest):
    """A guest of which there is only what it said."""

    @property
    def running(self) -> bool:
        """Return that it goes on."""
        return True


def test_a_guest_that_does_not_count_well_is_seen(tmp_path: Path) -> None:
    one = ConsoleOnly("vm", tmp_path / "vm.mem", tmp_path)

    def said(*lines: str) -> None:
        text = "".join(f"DIFFFS-GUEST {line}\n" for line in lines)
        one.console.write_text(text)

    said("tick name=vm count=1 ok=1", "tick name=vm count=2 ok=1")
    verify_counting(one)
    said("tick name=vm count=1 ok=1", "tick name=vm count=3 ok=1")
    with pytest.raises(GuestError, match="one by one"):
        verify_counting(one)
    said("tick name=vm count=1 ok=1", "failed name=vm work=verify reason=kept-data-differs")
    with pytest.raises(GuestError, match="kept-data-differs"):
        verify_counting(one)
    said("tick name=vm count=1 ok=1")
    gone = Guest("vm", tmp_path / "vm.mem", tmp_path)
    with pytest.raises(GuestError, match="has ended"):
        verify_counting(gone)
