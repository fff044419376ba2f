"""The scripts' own sanity: they parse, explain themselves and refuse what they do not know."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trial import cgroup, demo, guest, hog, report, swap

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    *("scripts/setup", "scripts/demo", "scripts/test", "scripts/bench", "scripts/make-guest"),
    *("scripts/collect-images", "scripts/lock", ".ci/run", "vm-configs/run-guest"),
    *("scripts/make-formats", "scripts/build-wheels", "scripts/test-wheel"),
    *("scripts/test-setup", "scripts/compare-wheels", "scripts/wheels/python"),
    *("scripts/suspend-resume", "scripts/clone-guest"),
]
GUEST_INIT = "scripts/formats/guest-init"
INIT = "vm-configs/guest/init"
GUEST_FILES = "scripts/collection/guest-files"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, check=False, capture_output=True, text=True, cwd=CHECKOUT, timeout=60
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_strict_bash(script: str) -> None:
    path = CHECKOUT / script
    assert path.stat().st_mode & 0o111 == 0o111
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert run("bash", "-n", script).returncode == 0


@pytest.mark.parametrize("init", [INIT, GUEST_INIT])
def test_guest_init_parses_as_posix_shell(init: str) -> None:
    assert run("sh", "-n", init).returncode == 0


@pytest.mark.parametrize("program", ["prepare", "workload"])
def test_programs_of_collected_guests_parse(program: str) -> None:
    path = f"{GUEST_FILES}/{program}"
    assert (CHECKOUT / path).stat().st_mode & 0o111 == 0o111
    assert run("bash", "-n", path).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
def test_shellcheck() -> None:
    found = run("shellcheck", *SCRIPTS)
    assert found.returncode == 0, found.stdout
    found = run("shellcheck", "--shell=sh", INIT, GUEST_INIT)
    assert found.returncode == 0, found.stdout
    found = run("shellcheck", f"{GUEST_FILES}/prepare", f"{GUEST_FILES}/workload")
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "script",
    [script for script in SCRIPTS if script not in (".ci/run", "scripts/wheels/python")],
    ids=lambda name: Path(name).name,
)
def test_help_is_the_header(script: str) -> None:
    shown = run(script, "--help")
    assert shown.returncode == 0
    assert Path(script).name in shown.stdout
    assert "set -euo" not in shown.stdout
    assert "#!" not in shown.stdout


def run_test_script(
    folder: Path, side_by_side: int, one_by_one: int, *words: str
) -> tuple[int, list[list[str]]]:
    """Run scripts/test where pytest is a stub that ends so; return the exit status and how it was
    called."""
    stubs = {
        "scripts/setup": "exit 0",
        ".venv/bin/python": "case $2 in ruff|--strict|mypy) exit 0 ;; esac\n"
        f"printf '%s\\n' \"$@\" -- >>{folder}/calls\n"
        f'case " $* " in *" -n "*) exit {side_by_side} ;; *) exit {one_by_one} ;; esac',
    }
    for name, body in stubs.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    shutil.copy(CHECKOUT / "scripts/test", folder / "scripts/test")
    done = run(str(folder / "scripts/test"), *words)
    calls = (folder / "calls").read_text().split("--\n")[:-1]
    return done.returncode, [call.splitlines() for call in calls]


@pytest.mark.skipif(os.geteuid() != 0, reason="as a user it asks sudo")
def test_every_test_is_run_side_by_side_or_by_itself(tmp_path: Path) -> None:
    words = ("-m", "not minutes or slow", "-x", "tests/test_size.py")
    status, (first, second) = run_test_script(tmp_path, 0, 0, *words)
    assert status == 0
    assert first[:4] == ["-m", "pytest", "-m", "not integration and (not minutes or slow)"]
    assert second[:4] == ["-m", "pytest", "-m", "integration and (not minutes or slow)"]
    assert "-n" in first
    assert "-n" not in second
    assert first[-2:] == second[-2:] == ["-x", "tests/test_size.py"]


@pytest.mark.skipif(os.geteuid() != 0, reason="as a user it asks sudo")
@pytest.mark.parametrize(
    ("side_by_side", "one_by_one", "status"),
    [(0, 0, 0), (1, 0, 1), (0, 1, 1), (5, 0, 0), (0, 5, 0), (5, 1, 1), (5, 5, 5)],
)
def test_a_part_without_tests_is_no_failure_unless_both_are(
    tmp_path: Path, side_by_side: int, one_by_one: int, status: int
) -> None:
    """5 is what pytest says where nothing was chosen."""
    assert run_test_script(tmp_path, side_by_side, one_by_one)[0] == status


def test_the_fast_tests_are_one_part(tmp_path: Path) -> None:
    status, calls = run_test_script(tmp_path, 0, 1, "--fast", "-k", "size")
    assert status == 0
    (call,) = calls
    assert call[call.index("-m", 1) + 1] == "not integration and not slow"
    assert call[-2:] == ["-k", "size"]


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/make-guest", "vm-configs/run-guest"])
def test_unknown_options_are_usage_errors(script: str) -> None:
    refused = run(script, "--nonsense")
    assert refused.returncode == 2
    assert "--help" in refused.stderr


def test_demo_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = demo.parse(["--guests", "3", "--memory", "128", "--accel", "tcg"])
    assert (options.guests, options.memory, options.accel, options.rounds) == (3, 128, "tcg", 1)
    for wrong in (["--guests", "0"], ["--memory", "32"], ["--accel", "xen"], ["extra"]):
        with pytest.raises(SystemExit) as refused:
            demo.parse(wrong)
        assert refused.value.code == 2
    assert "--memory" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_does_what_this_host_can(tmp_path: Path) -> None:
    if run("scripts/make-guest").returncode != 0 or guest.obstacle() is not None:
        pytest.skip("no guest can be built or booted here")
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "trial.demo", "--guests", "1", "--memory", "96", "--json", figures],
        check=False,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT / "scripts")},
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(figures.read_text())
    assert report["problems"] == []
    assert report["statistics"]["factor"] > 1
    outcomes = {part["name"]: part["outcome"] for part in report["parts"]}
    assert outcomes["check the store"].startswith("clean")
    if os.geteuid() == 0 and demo.fuse_obstacle() is None and swap.obstacle() is None:
        assert "swapped out" in outcomes["swap a process of 256 MiB"]
    left = [
        line for line in Path("/proc/mounts").read_text().splitlines() if "difffs-demo-" in line
    ]
    assert left == []


def test_demo_header_names_every_option() -> None:
    header = run("scripts/demo", "--help").stdout
    for option in vars(demo.parse([])):
        assert f"--{option} " in header


def test_table_has_every_route_and_the_factor() -> None:
    routes = dict.fromkeys(report.ROUTES, 10)
    statistics = {
        "pages": routes | {"total": 60},
        "bytes": {"logical": 4 << 20, "payload": 900, "slack": 50, "metadata": 50, "stored": 1000},
        "factor": 4.25,
    }
    shown = report.table(statistics, [report.Part("guests", 12.5, "all powered off")])
    for word in (*report.ROUTES, "logical", "stored", "4.25", "16.7%", "12.5", "all powered off"):
        assert word in shown


def test_hog_verifies_what_it_wrote() -> None:
    """In a process of its own, as the demo runs it."""
    done = subprocess.run(
        [sys.executable, hog.__file__, "--hold", "4", "3"],
        check=False,
        input="",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pages_verified") == 2


def test_hog_notices_a_wrong_page() -> None:
    one = hog.Hog(1, seed=1)
    one.verify(rewrite=3)
    one.verify()
    one._memory[5000] ^= 1
    with pytest.raises(ValueError, match="page 1 "):
        one.verify()


def test_cgroup_hierarchy_is_one_of_two() -> None:
    found = cgroup.hierarchy()
    assert found is None or found.version in (1, 2)
