"""scripts/record-guest with the small guest: a real boot, a real mount."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from recording.options import parse
from trial import guest

from difffs.mount.table import mounts
from difffs.study import live
from difffs.study.recording import Recording
from tests.integration.harness import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.timeout(900),
]


def recorded_mounts() -> set[str]:
    """Where recordings have mounts."""
    return {mount.mountpoint for mount in mounts() if "difffs-record-" in mount.mountpoint}


@pytest.fixture
def host() -> Iterator[None]:
    """Skip where no guest can be booted on a mount; fail when a mount is left."""
    if reason := live.obstacle() or guest.obstacle():
        pytest.skip(reason)
    before = recorded_mounts()
    yield
    assert recorded_mounts() <= before


def record(path: Path, *words: str) -> subprocess.Popen[str]:
    """Start a recording."""
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'scripts'}"}
    return subprocess.Popen(
        [sys.executable, "-m", "recording", *words, str(path)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.usefixtures("host")
def test_a_guest_is_recorded_from_its_boot_on(tmp_path: Path) -> None:
    path = tmp_path / "guest.jsonl"
    with record(path, "--seconds", "4", "--memory", "128", "--interval", "0.2") as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    found = Recording.read(path)
    assert found.about["mebibytes"] == 128
    (ready,) = (event for event in found.events if event.text.startswith("ready"))
    last = found.samples[-1]
    assert 2 < last.seconds - ready.seconds < 60
    assert all(a.seconds < b.seconds and a.routed <= b.routed for a, b in pairwise(found.samples))
    assert 0 < last.stored < last.logical <= 128 << 20
    assert last.routed >= last.total > 0
    assert 0 < last.cached <= 128 << 20


@pytest.mark.usefixtures("host")
def test_an_interrupt_leaves_the_recording_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "guest.jsonl"
    with record(path, "--seconds", "600") as process:
        wait_until(lambda: path.exists() and path.read_text().count("\n") > 3, 120)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert Recording.read(path).samples


def test_options_are_those_of_the_collected_guest(tmp_path: Path) -> None:
    path = str(tmp_path / "one.jsonl")
    options = parse(["--collection", str(tmp_path), "--guest", "mixed-2/debian-12-jvm", path])
    assert (options.mebibytes, options.member.work) == (320, "jvm")
    assert parse(["--memory", "96", path]).mebibytes == 96
    for words in (["--memory", "64"], ["--seconds", "0"], ["--guest", "nobody"]):
        with pytest.raises(SystemExit):
            parse([*words, path])
