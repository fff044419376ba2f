"""scripts/build-wheels, and what it has built: with this machine's Pythons, in fresh Debians, under
the tests of the kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from collection.disks import obstacle
from collection.releases import MIRROR
from trial import guest
from wheels.running import CHECKOUT, environment

OBSTACLE = obstacle()

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.timeout(3600),
]


def run(*words: str | Path, folder: Path = CHECKOUT) -> str:
    # Without the path to the checkout's modules that the suite sets for the commands it runs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """(source distribution, wheel)"""
    for tool in ("git", "cc", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    if not (CHECKOUT / ".git").exists():
        pytest.skip("no checkout of git's")
    try:
        urllib.request.urlopen(f"{MIRROR}/dists/stable/Release", timeout=20).close()
    except OSError as error:
        pytest.skip(f"{MIRROR} is out of reach: {error}")
    folder = tmp_path_factory.mktemp("dist")
    archive, wheel = map(Path, run("scripts/build-wheels", folder).split())
    yield archive, wheel
    for file in (archive, wheel):
        file.unlink()


def test_on_this_machines_pythons(made: tuple[Path, Path]) -> None:
    lines = run("scripts/test-wheel", "--python", sys.executable, made[1]).splitlines()
    assert lines
    assert all("payloads of" in line for line in lines)


@pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or "")
def test_in_fresh_debians_with_a_guest_on_the_mount(made: tuple[Path, Path]) -> None:
    run("scripts/make-guest")
    if (reason := guest.obstacle()) is not None and "QEMU" not in reason:
        pytest.skip(reason)  # QEMU is installed in the roots
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    lines = run("scripts/test-wheel", "--debian", "bookworm,trixie", made[1]).splitlines()
    assert [line.split(",")[0] for line in lines] == ["Debian bookworm", "Debian trixie"]
    assert all("ok=1" in line for line in lines)


def test_the_stable_abi_passes_the_tests_of_the_kernels(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    """Those that call native code most, with the wheel instead of the checkout's modules."""
    locked = ("--constraint", CHECKOUT / "scripts/requirements.lock")
    wanted = ("pytest", "pytest-timeout", "hypothesis", "bsdiff4", "lz4", "cramjam", "numpy")
    python = environment(tmp_path / "venv", Path(sys.executable), *locked, *wanted, made[1])
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("tests", "scripts"):
        shutil.copytree(CHECKOUT / name, tree / name)
    shutil.copy(CHECKOUT / "pyproject.toml", tree)
    tell = "import difffs._kernels as k, difffs.study._kernels as s; print(k.__file__, s.__file__)"
    said = run(python, "-c", tell, folder=tree)
    assert said.count(".abi3.so") == 2
    assert str(CHECKOUT) not in said
    folders = ["tests/kernels", "tests/codec", "tests/store", "tests/test_volume.py"]
    folders += ["tests/study/test_kernels.py", "tests/test_libraries.py"]
    for name in ("kernels/test_sanitized.py", "codec/test_patch_fuzz.py"):
        (tree / "tests" / name).unlink()  # they build from native/
    choice = "not slow and not minutes and not integration"
    run(python, "-m", "pytest", "-q", "-m", choice, *folders, folder=tree)
