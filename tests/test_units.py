"""The systemd units of vm-configs: systemd finds nothing wrong, and their commands are difffs's."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from difffs.cli.main import build_parser
from difffs.configuration.keys import KINDS, Kind
from difffs.doctor.groups import NOT_SWAPPED
from difffs.mount.privileges import AT_HAND, KEPT

FOLDER = Path(__file__).parents[1] / "vm-configs"
UNITS = sorted([*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze (Debian's package systemd)")
    assert len(UNITS) == 6
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


@pytest.mark.parametrize(("before", "cycle"), [("basic.target", False), ("swap.target", True)])
def test_the_order_of_swap_has_no_cycle(before: str, cycle: bool, tmp_path: Path) -> None:
    """Even with /tmp in memory, which is before local-fs.target and after swap.target: what areas
    of fstab do, to be before swap.target, would be one."""
    analyze = shutil.which("systemd-analyze")
    in_memory = Path("/usr/share/systemd/tmp.mount")
    if not in_memory.exists():
        in_memory = Path("/usr/lib/systemd/system/tmp.mount")
    if analyze is None or not in_memory.exists():
        pytest.skip("no systemd-analyze, or no tmp.mount (Debian's package systemd)")
    text = (FOLDER / "difffs-swap@.service").read_text()
    text = text.replace("/usr/local/bin/difffs", "/bin/true").replace("basic.target", before)
    if before == "swap.target":
        text = text.replace(
            "After=sysinit.target local-fs.target swap.target", "After=local-fs.target"
        )
        text = text.replace("Requires=sysinit.target\n", "")
    (tmp_path / "difffs-swap@.service").write_text(text)
    shutil.copy(in_memory, tmp_path / "tmp.mount")
    for target, unit, file in (
        (before, "difffs-swap@main.service", "difffs-swap@.service"),
        ("local-fs.target", "tmp.mount", "tmp.mount"),
    ):
        wants = tmp_path / f"{target}.wants"
        wants.mkdir()
        (wants / unit).symlink_to(tmp_path / file)
    done = subprocess.run(
        [analyze, "verify", "--man=no", "basic.target"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},  # and where they are otherwise
    )
    assert ("ordering cycle" in done.stderr) is cycle, done.stderr


def test_limits_of_all_services_are_not_those_of_a_daemon_that_carries_swap() -> None:
    """Nor does ``difffs doctor`` ask for a limit of theirs."""
    (found,) = re.findall(r"^Slice=(.*)$", (FOLDER / "difffs-swap@.service").read_text(), re.M)
    assert found in NOT_SWAPPED


def test_their_commands_parse() -> None:
    calls = [
        call
        for unit in UNITS
        for call in re.findall(r"^Exec\w+=/usr/local/bin/difffs (.*)$", unit.read_text(), re.M)
    ]
    assert len(calls) == 8
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
        *("NoNewPrivileges", "KeyringMode", "IPAddressDeny"),
    ):
        values = [setting(kind.unit, key) for kind in KINDS.values()]
        assert values[0], key
        assert all(value == values[0] for value in values), key


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: str(kind.name))
def test_the_sandbox_of_daemons_leaves_them_what_they_keep(kind: Kind) -> None:
    (bounds,) = setting(kind.unit, "CapabilityBoundingSet")
    kept = {f"CAP_{each.name}" for each in KEPT | AT_HAND}
    more = {"swap": {"CAP_SYS_CHROOT"}, "mount": set()}[kind.name]  # setns(2) of swapoff
    assert set(bounds.split()) == kept | more
    text = (FOLDER / kind.unit).read_text()
    for key in ("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ReadOnlyPaths"):
        assert f"\n{key}=" not in text, "the mount would be seen in a namespace of its own only"
    for key in ("SystemCallFilter", "RestrictAddressFamilies", "SystemCallArchitectures"):
        assert f"\n{key}=" not in text, "each system call would pay for it"


def test_refining_is_for_a_store_that_is_mounted_and_ends_before_it_is_not() -> None:
    unit = "difffs-refine@.service"
    assert setting(unit, "Requisite") == setting(unit, "After") == ["difffs@%i.service"]
    (call,) = setting(unit, "ExecStart")
    assert call.split()[1:] == ["refine", "--configured", "%i"]
    assert setting(unit, "TimeoutStartSec") == ["infinity"], "its budget ends it"
    assert setting(unit, "IOSchedulingClass") == setting(unit, "CPUWeight") == ["idle"]
    assert setting("difffs-refine@.timer", "Persistent") == ["yes"]


@pytest.mark.parametrize(
    "key", ["NoNewPrivileges", "CapabilityBoundingSet", "RestrictAddressFamilies"]
)
def test_what_only_asks_mounts_is_hardened_alike(key: str) -> None:
    values = [setting(f"difffs-{name}@.service", key) for name in ("metrics", "refine")]
    assert values[0]
    assert values[0] == values[1]


def test_metrics_are_those_of_the_store_that_is_mounted_by_default() -> None:
    mountpoint = KINDS["mount"].keys["mountpoint"].default.replace("NAME", "%i")
    metrics = (FOLDER / "difffs-metrics@.service").read_text()
    assert f"ConditionPathIsMountPoint={mountpoint}\n" in metrics
    assert f"stats {mountpoint} --prometheus" in metrics
    assert re.search(r"--prometheus \S+\.prom$", metrics, re.MULTILINE)
