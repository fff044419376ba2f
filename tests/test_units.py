"""The systemd units of vm-configs: systemd finds nothing wrong, and their commands are difffs's."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from difffs.cli.main import build_parser

FOLDER = Path(__file__).parents[1] / "vm-configs"
UNITS = sorted([*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze (Debian's package systemd)")
    assert len(UNITS) == 3
    for unit in UNITS:
        # a program that there is, wherever difffs is installed here
        text = unit.read_text().replace("/usr/local/bin/difffs", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "difffs" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_their_commands_parse() -> None:
    calls = [
        call
        for unit in UNITS
        for call in re.findall(r"^Exec\w+=/usr/local/bin/difffs (.*)$", unit.read_text(), re.M)
    ]
    assert len(calls) == 3
    for call in calls:
        words = shlex.split(call.replace("%i", "guests"))
        build_parser(words[0]).parse_args(words)


def test_metrics_are_those_of_the_store_that_is_mounted() -> None:
    mounting = (FOLDER / "difffs@.service").read_text()
    metrics = (FOLDER / "difffs-metrics@.service").read_text()
    mountpoint = re.search(r"^ExecStart=.* (\S+)$", mounting, re.MULTILINE)
    assert mountpoint
    assert f"ConditionPathIsMountPoint={mountpoint.group(1)}\n" in metrics
    assert f"stats {mountpoint.group(1)} --prometheus" in metrics
    assert re.search(r"--prometheus \S+\.prom$", metrics, re.MULTILINE)
