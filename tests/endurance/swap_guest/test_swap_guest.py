"""Two minutes of it, and that its programs and its judgement see what they shall see."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from booting import disk
from booting.guest import Report, obstacle

from difffs.configuration.files import read
from difffs.configuration.keys import entries
from tests.endurance.swap_guest.trial import (
    CHECKOUT,
    GUEST_FILES,
    LIMITS_MIB,
    REALTIME,
    STORES,
    Outcome,
    SwapGuest,
    Trial,
)

PAGE = 4096
END = {
    "settings": {"hung_task_panic": "1", "panic_on_oops": "1", "kernel": "6.1", "store": "ext4"},
    "work": {"peak_swapped": str(300 << 20), "oom_kill": "0"},
    "store": {"unit": "ActiveState=active", "code": "0", "said": ""},
    "done": {},
}
PROGRAM = {"name": "memory-1", "code": "0", "state": "done", "used": "1", "verified": "2"}


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.timeout(3600)
def test_two_minutes_of_it(tmp_path: Path) -> None:
    if (reason := obstacle()) is not None:
        pytest.skip(reason)
    guest = SwapGuest(tmp_path, 200, 1, print, newest_kernel=False)
    outcome = guest.run(Trial("disk", "files", 2, 200, LIMITS_MIB["disk"]))
    assert outcome.faults == []
    assert outcome.count("verified") >= 2 * outcome.trial.program_bytes // PAGE
    assert int(outcome.work["pswpout"]) * PAGE > 200 << 20
    assert int(outcome.work["pswpin"]) > 0
    assert outcome.count("written_mib") > 0


def outcome_of(
    *programs: dict[str, str], beside: str = "nothing", **changed: dict[str, str]
) -> Outcome:
    """What comes of a guest that told all that it should, but for what is changed."""
    outcome = Outcome(Trial("disk", beside, 10, 200, 300))
    for kind, values in {**END, **changed}.items():
        outcome.take(Report(kind, values))
    for program in programs or (PROGRAM, PROGRAM):
        outcome.take(Report("program", program))
    return outcome


def test_a_guest_that_did_well_has_no_faults() -> None:
    outcome = outcome_of()
    outcome.take(Report("kernel", {"text": "rcu: stalled for a while"}))
    outcome.judge()
    assert outcome.faults == []
    assert outcome.count("verified") == 4


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (outcome_of(work={**END["work"], "oom_kill": "1"}), "for want of memory"),
        (outcome_of(work={**END["work"], "peak_swapped": "0"}), "hardly anything"),
        (outcome_of(settings={**END["settings"], "hung_task_panic": "0"}), "nothing is proven"),
        (outcome_of(store={**END["store"], "code": "1"}), "not as it should be"),
        (outcome_of(store={**END["store"], "unit": "ActiveState=failed"}), "not as it should be"),
        (outcome_of({**PROGRAM, "code": "1", "state": "wrong"}, PROGRAM), "did not end well"),
        (outcome_of({**PROGRAM, "code": "-9", "state": "working"}, PROGRAM), "did not end well"),
        (outcome_of(PROGRAM), "missing"),
        (outcome_of(beside="forks"), "missing"),
    ],
)
def test_what_must_not_be_is_a_fault(outcome: Outcome, fault: str) -> None:
    outcome.judge()
    (found,) = outcome.faults
    assert fault in found


def test_a_guest_that_did_not_live_is_a_fault() -> None:
    outcome = Outcome(Trial("disk", "nothing", 10, 200, 300))
    outcome.take(Report("settings", END["settings"]))
    outcome.last = "Kernel panic - not syncing: hung_task: blocked tasks"
    outcome.judge()
    (fault,) = outcome.faults
    assert "Kernel panic" in fault


def test_a_daemon_must_be_scheduled_as_wished() -> None:
    outcome = Outcome(Trial("tmpfs", "nothing", 10, 200, 0, realtime=True))
    outcome.finished = True
    outcome.settings = {**END["settings"], "realtime": "False"}
    outcome.work, outcome.store = END["work"], END["store"]
    outcome.programs = [PROGRAM, PROGRAM]
    outcome.judge()
    (fault,) = outcome.faults
    assert "real time" in fault
    outcome.faults.clear()
    outcome.settings["realtime"] = "True"
    outcome.judge()
    assert outcome.faults == []


def test_an_error_of_the_swap_device_is_a_fault() -> None:
    outcome = outcome_of()
    outcome.take(Report("kernel", {"text": "Read-error on swap-device (7:0:8)"}))
    outcome.judge()
    assert outcome.faults == ["Read-error on swap-device (7:0:8)"]


def test_the_configuration_has_each_store() -> None:
    found = entries(read([GUEST_FILES / "difffs.conf"]))
    assert {one.name for one in found} == set(STORES) == set(LIMITS_MIB) == set(REALTIME)
    assert {one.kind.unit for one in found} <= set(disk.UNITS)


def programs() -> list[Path]:
    return [path for path in GUEST_FILES.iterdir() if not path.suffix]


def test_its_programs_are_python() -> None:
    assert programs()
    for path in programs():
        ast.parse(path.read_text())
        assert path.stat().st_mode & 0o111


def run(program: str, *arguments: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run one of the programs until it has told of its work; its exit status and last line."""
    over, output = folder / "over", folder / "output"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts/benchmark")}
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, str(GUEST_FILES / program), *arguments, str(over)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            env=environment,
        )
    while b"\n" not in output.read_bytes() and process.poll() is None:
        time.sleep(0.01)
    over.touch()
    code = process.wait(60)
    found: dict[str, Any] = json.loads(output.read_text().splitlines()[-1])
    return code, found


def test_memory_is_used_and_verified(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(os.urandom(64 * PAGE))
    code, last = run("use-memory", str(64 * PAGE), str(image), folder=tmp_path)
    assert (code, last["state"]) == (0, "done")
    assert last["verified"] >= 64


def test_files_are_written_and_read_back(tmp_path: Path) -> None:
    code, last = run("use-files", str(tmp_path / "files"), folder=tmp_path)
    assert (code, last["state"], last["wrong"]) == (0, "done", 0)
    assert last["read_mib"] >= last["written_mib"] > 0


def test_children_come_and_go(tmp_path: Path) -> None:
    code, last = run("storm-of-forks", folder=tmp_path)
    assert (code, last["state"], last["wrong"]) == (0, "done", 0)
    assert last["ended"] > 0
