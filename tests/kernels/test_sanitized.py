"""The tests of native code once more, on kernels built with the address and undefined-behaviour
sanitizers: what reads or writes out of bounds there ends the run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SANITIZERS = "address,undefined"
CHOSEN = (
    "tests/kernels",
    "tests/refine",
    "tests/store/test_groups.py",
    "tests/codec",
    "tests/study/test_kernels.py",
    "tests/study/detectors",
    "tests/test_router.py",
    "tests/test_dictionary.py",
    "tests/test_data_path.py",
    "tests/test_write_buffer.py",
    "tests/mount/test_request_times.py",
)

pytestmark = [pytest.mark.slow, pytest.mark.minutes, pytest.mark.timeout(900)]


def runtime() -> str:
    """The library that must be loaded before all others."""
    compiler = os.environ.get("CC", "gcc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no compiler {compiler}")
    told = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not os.path.isabs(told):
        pytest.skip(f"{compiler} has no libasan")
    return told


def environment(**more: str) -> dict[str, str]:
    dropped = ("PYTHONPATH", "LD_PRELOAD", "PYTEST_ADDOPTS")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, **more}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with sanitized kernels."""
    pytest.importorskip("Cython", reason="building the kernels takes Cython")
    runtime()
    copy = tmp_path_factory.mktemp("sanitized")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    made = ("*.so", "_kernels.c", "_answering.c", "__pycache__")
    ignored = shutil.ignore_patterns(*made, "integration")
    for name in ("difffs", "native", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    (copy / "scripts").mkdir()
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copy,
        env=environment(DIFFFS_SANITIZE=SANITIZERS),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


def run(built: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=built,
        env=environment(
            LD_PRELOAD=runtime(),
            # Python itself keeps memory until it ends.
            ASAN_OPTIONS="detect_leaks=0:abort_on_error=0:exitcode=99",
            UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:exitcode=99",
        ),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_sanitizers_are_there(built: Path) -> None:
    """The copy's kernels are the ones loaded, and bad memory accesses are found in them."""
    where = run(built, "-c", "import difffs._kernels as k; print(k.__file__)")
    assert where.returncode == 0, where.stderr
    assert where.stdout.startswith(str(built))
    wild = run(
        built, "-c", "import ctypes; ctypes.memmove(ctypes.create_string_buffer(8), b'x', 1)"
    )
    assert wild.returncode == 0, wild.stderr
    wild = run(
        built,
        "-c",
        "import ctypes; b = ctypes.create_string_buffer(1 << 16); ctypes.memset(b, 0, 1 << 17)",
    )
    assert wild.returncode == 99
    assert "heap-buffer-overflow" in wild.stderr


def test_the_kernels_tests_under_sanitizers(built: Path) -> None:
    done = run(
        *(built, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *CHOSEN),
        "--ignore=tests/codec/test_decoder_fuzz.py",  # its program has sanitizers of its own
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert " passed" in done.stdout
