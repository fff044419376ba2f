"""What is packed: by the checkout's own settings, and as the checks see it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from wheels.contents import check_source_distribution, check_wheel
from wheels.running import CHECKOUT, WheelError
from wheels.sources import SOURCES

INFO = "difffs-1.dist-info"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What setuptools would put into a source distribution of the checkout."""
    folder = tmp_path_factory.mktemp("egg")
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", folder],
        check=True,
        capture_output=True,
        cwd=CHECKOUT,
    )
    lines = (folder / "difffs.egg-info/SOURCES.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith(str(folder))]


def test_the_source_distribution_has_what_git_has(listed: list[str]) -> None:
    check_source_distribution([*(f"difffs-1/{name}" for name in listed), "difffs-1/PKG-INFO"])
    for folder, suffixes in (
        ("native", (".c", ".h")),
        ("docs/man", (".1", ".5", ".8")),
        ("difffs", (".pyx", ".pxi", ".pyi")),
        ("completion", ("",)),
    ):
        there = {
            str(path.relative_to(CHECKOUT))
            for path in (CHECKOUT / folder).rglob("*")
            if path.is_file() and path.name.endswith(suffixes) and "__pycache__" not in path.parts
        }
        assert there - set(listed) == set(), folder
    assert not [name for name in listed if name.startswith(("tests/", "scripts/", "findings/"))]
    assert not [name for name in listed if name.startswith("difffs/") and name.endswith(".c")]


def test_strange_and_missing_files_are_told(listed: list[str]) -> None:
    names = [f"difffs-1/{name}" for name in listed if name != "native/codec.h"]
    with pytest.raises(WheelError) as refused:
        check_source_distribution([*names, "difffs-1/PKG-INFO", "difffs-1/tests/.pytest_cache/x"])
    assert "lacks native/codec.h, has tests/.pytest_cache/x" in str(refused.value)


def wheel_of(folder: Path, names: Iterable[str]) -> Path:
    wheel = folder / "difffs-1-cp311-abi3-manylinux_2_34_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as content:
        for name in names:
            content.writestr(name, b"")
    return wheel


def test_wheels(tmp_path: Path) -> None:
    share = "difffs-1.data/data/share"
    whole = [
        *("difffs/_kernels.abi3.so", "difffs/study/_kernels.abi3.so", "difffs/cli/main.py"),
        *("difffs/mount/_answering.abi3.so", "difffs/refine/_likeness.abi3.so"),
        *(f"{share}/man/man1/difffs.1", f"{share}/bash-completion/completions/difffs"),
        *(f"{INFO}/METADATA", f"{INFO}/licenses/LICENSE"),
        *(f"{INFO}/licenses/LICENSE.{source.name}" for source in SOURCES),
    ]
    check_wheel(wheel_of(tmp_path, whole))
    # a library beside the modules: it was not linked in
    with pytest.raises(WheelError, match=r"has difffs\.libs/libzstd\.so\.1"):
        check_wheel(wheel_of(tmp_path, [*whole, "difffs.libs/libzstd.so.1"]))
    with pytest.raises(WheelError, match=r"lacks .*LICENSE\.libzstd"):
        check_wheel(wheel_of(tmp_path, [one for one in whole if "libzstd" not in one]))
    with pytest.raises(WheelError, match=r"lacks .*LICENSE\.liblzma"):
        check_wheel(wheel_of(tmp_path, [one for one in whole if "liblzma" not in one]))
    with pytest.raises(WheelError, match=r"lacks difffs/refine/_likeness\.abi3\.so"):
        check_wheel(wheel_of(tmp_path, [one for one in whole if "_likeness" not in one]))
    with pytest.raises(WheelError, match=r"has difffs/_kernels\.c"):
        check_wheel(wheel_of(tmp_path, [*whole, "difffs/_kernels.c"]))
