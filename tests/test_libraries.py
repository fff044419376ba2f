"""The versions that difffs names are those that are loaded."""

import ctypes
import ctypes.util
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from difffs import _kernels, libraries
from difffs.errors import EnvironmentProblem


def test_the_kernels_tell_the_library_that_they_are_linked_with() -> None:
    found = libraries.library_versions()
    assert list(found) == ["libzstd", "liblz4", "liblzma", "lmdb", "python"]
    assert all(version.split(".")[0].isdigit() for version in found.values())
    # The handle of the kernels finds what they are linked with, unless it is part of them.
    kernels = ctypes.CDLL(_kernels.__file__)
    if hasattr(kernels, "ZSTD_versionString"):
        kernels.ZSTD_versionString.restype = ctypes.c_char_p
        assert found["libzstd"] == kernels.ZSTD_versionString().decode()
    if hasattr(kernels, "lzma_version_string"):
        kernels.lzma_version_string.restype = ctypes.c_char_p
        assert found["liblzma"] == kernels.lzma_version_string().decode()


def test_every_library_has_a_line() -> None:
    lines = list(libraries.version_lines())
    names = [line.split()[0] for line in lines]
    assert names[:5] == ["libzstd", "liblz4", "liblzma", "xxHash", "LMDB"]
    assert names[-5:] == ["Python", *libraries.PACKAGES]
    for package in libraries.PACKAGES:
        assert f"  {package} {importlib.metadata.version(package)}" in lines


def test_libfuse_tells_all_of_its_version() -> None:
    try:
        from difffs.mount import binding
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    assert f"libfuse {binding.package_version()}" in list(libraries.version_lines())
    assert tuple(map(int, binding.package_version().split(".")[:2])) == binding.VERSION


def test_what_is_not_there_is_told() -> None:
    """In a process without the kernels, LMDB and libfuse."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['difffs._kernels', 'lmdb']));"
        "from difffs.libraries import version_lines; print(*version_lines(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={"FUSE_LIBRARY_PATH": "/nowhere/libfuse3.so"},
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the page kernels cannot be loaded: ")
    assert lines[1].startswith("the Python package lmdb: ")
    assert "libfuse" in lines[2]
    assert lines[3].startswith("Python 3.")


def test_only_the_version_asks_for_all_of_them() -> None:
    """The other commands do not load what they do not use."""
    program = (
        "import sys; from difffs.cli.main import main\n"
        "try: main(['stats', '--help'])\n"
        "except SystemExit: pass\n"
        "some = {'importlib.metadata', 'lmdb', 'mfusepy', 'xxhash', 'zstandard'}\n"
        "print(sorted(some & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stderr.strip() == "[]"
