"""The systemd units of vm-configs: systemd finds nothing wrong, and their commands are difffs's."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from difffs.cli.main import build_parser
from difffs.configuration.keys import KINDS, Kind

FOLDER = Path(__file__).parents[1] / "vm-configs"
UNITS = sorted([*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze (Debian's package systemd)")
    assert len(UNITS) == 4
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
    assert len(calls) == 7
    for call in calls:
        words = shlex.split(call.replace("%i", "guests"))
        build_parser(words[0]).parse_args(words)


def setting(unit: str, key: str) -> list[str]:
    """All that a unit sets a key to."""
    return re.findall(rf"^{key}=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.name))
def test_each_kind_of_section_has_its_unit(kind: Kind) -> None:
    start, stop = {"mount": ("mount", "umount"), "swap": ("swapon", "swapoff")}[kind.name]
    for key, command in (("ExecStart", start), ("ExecStop", stop), ("ExecStopPost", stop)):
        (call,) = setting(kind.unit, key)
        assert call.split()[1:4] == [command, "--configured", "%i"]


def test_the_units_of_daemons_are_hardened_alike() -> None:
    for key in (
        *("OOMScoreAdjust", "LimitMEMLOCK", "LimitNOFILE", "MemorySwapMax", "Restart", "KillMode"),
        *("StateDirectory", "RuntimeDirectory", "RuntimeDirectoryPreserve"),
    ):
        values = [setting(kind.unit, key) for kind in KINDS.values()]
        assert values[0], key
        assert all(value == values[0] for value in values), key


def test_metrics_are_those_of_the_store_that_is_mounted_by_default() -> None:
    mountpoint = KINDS["mount"].keys["mountpoint"].default.replace("NAME", "%i")
    metrics = (FOLDER / "difffs-metrics@.service").read_text()
    assert f"ConditionPathIsMountPoint={mountpoint}\n" in metrics
    assert f"stats {mountpoint} --prometheus" in metrics
    assert re.search(r"--prometheus \S+\.prom$", metrics, re.MULTILINE)
