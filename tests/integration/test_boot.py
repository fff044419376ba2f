"""A Debian boots with difffs's systemd units, shuts down, is switched off, and boots again.

By itself: ``pytest tests/integration/test_boot.py``. What takes long and stays the same, a Debian
with systemd and Python, is kept in ``.cache``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from booting import disk
from booting.disk import Disks
from booting.guest import BootedGuest, Report, obstacle
from trial import guest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.timeout(2400),
]

MOUNTS = {
    "/run/difffs/guests": "/var/lib/difffs/guests",
    "/mnt/images": "/var/lib/difffs/images",
    "/mnt/lazy": "/var/lib/difffs/lazy",
}
SWAP = re.compile(r"/dev/loop\d+ +\d+ +10\Z")


@pytest.fixture(scope="module")
def boots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[list[Report]]]:
    """What the guest told in each of its three boots."""
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("boot")
    disks = disk.build(guest.cache_folder(), folder)
    told = []
    for name in ("shut-down", "switched-off", "shut-down-again"):
        with BootedGuest(name, folder / "no-file", folder, 512, disks=disks) as booted:
            told.append(booted.report())
        if name != "switched-off":
            assert_clean_file_systems(disks)
    yield told
    shutil.rmtree(folder)


def assert_clean_file_systems(disks: Disks) -> None:
    """Both were unmounted, or could be made read-only, before the power went."""
    for image in (disks.root, disks.swap):
        shown = subprocess.run(
            ["dumpe2fs", "-h", image], check=True, capture_output=True, text=True
        )
        assert re.search(r"^Filesystem state: +clean$", shown.stdout, re.MULTILINE), image
        assert "needs_recovery" not in shown.stdout, image


def values(told: list[Report], kind: str) -> list[dict[str, str]]:
    return [report.values for report in told if report.kind == kind]


def assert_all_is_up(told: list[Report]) -> None:
    units = values(told, "unit")[-2:]
    assert [unit["name"] for unit in units] == ["difffs@guests.service", "difffs-swap@main.service"]
    commands = ("mount --configured guests", "swapon --configured main")
    for unit, command in zip(units, commands, strict=True):
        assert (unit["ActiveState"], unit["Result"]) == ("active", "success")
        assert f"/usr/local/bin/difffs {command}" in unit["program"]
    assert SWAP.match(values(told, "swap")[-1]["areas"])
    mounts = values(told, "mount")[-len(MOUNTS) :]
    assert {found["where"]: found["source"] for found in mounts} == MOUNTS


def test_both_are_active_after_each_boot(boots: list[list[Report]]) -> None:
    for number, told in enumerate(boots, 1):
        (boot,) = values(told, "boot")
        assert (boot["number"], boot["state"], boot["failed"]) == (str(number), "running", "")
        assert_all_is_up(told)


def test_data_is_there_after_a_shutdown_and_after_none(boots: list[list[Report]]) -> None:
    for told in boots:
        before = int(values(told, "boot")[0]["number"]) - 1
        found = values(told, "data")
        assert len(found) == before * len(MOUNTS)
        assert all(one["right"] == "True" for one in found), found


def test_what_was_swapped_out_is_right_when_its_process_ends(boots: list[list[Report]]) -> None:
    (written,), (verified,) = values(boots[0], "written"), values(boots[0], "verified")
    assert int(written["swapped"]) > 64 << 20
    assert int(verified["pages"]) == int(verified["of"]) == (96 << 20) // 4096


def test_a_program_runs_on_half_of_its_memory(boots: list[list[Report]]) -> None:
    """In control groups of version 2, as they are where systemd is."""
    (run,) = values(boots[0], "run")
    assert (run["code"], run["verified"]) == ("0", "verified")
    assert (run["version"], run["stays"]) == ("2", "False")
    # Half, and its own memory, as far as that has not been swapped out.
    assert 32 << 20 <= int(run["limit"]) < 64 << 20
    assert int(run["guest_pages"]) <= 40 << 20
    assert int(run["waited_us"]) > 0, "the kernel tells how long it waited for its pages"
    assert int(run["refaults"]) > 0


def test_the_shutdown_was_in_order(boots: list[list[Report]]) -> None:
    said = [line["text"] for line in values(boots[1], "journal")]
    wrong = re.compile(r"ordering cycle|Failed|timed out|[Kk]illing|status=")
    assert [line for line in said if wrong.search(line)] == []

    def last(beginning: str) -> int:
        (*_, found) = (at for at, line in enumerate(said) if line.startswith(beginning))
        return found

    order = [
        "Stopped difffs-hog.service",
        "Stopping difffs-swap@main.service",
        "Deactivated swap dev-loop",
        "Stopped difffs-swap@main.service",
        "Stopped target local-fs.target",
        "Unmounted srv.mount",
    ]
    assert [last(line) for line in order] == sorted(last(line) for line in order)
    assert last("Stopped difffs@guests.service") < last("Stopped target local-fs.target")
    assert {"Unmounted mnt-images.mount", "Unmounted mnt-lazy.mount"} <= {
        line.partition(" - ")[0] for line in said
    }


def test_killed_daemons_leave_nothing_and_are_started_again(boots: list[list[Report]]) -> None:
    (killed,) = values(boots[2], "killed")
    assert killed == {"mount": "", "areas": "", "loops": ""}
    assert_all_is_up(boots[2])


def test_the_stores_are_clean(boots: list[list[Report]]) -> None:
    checks = values(boots[2], "check")
    assert {check["store"] for check in checks} == {*MOUNTS.values(), "/srv/swap"}
    assert all(check["code"] == "0" for check in checks), checks
