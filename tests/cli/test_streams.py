"""What a command does when its standard streams are closed, full, or gone."""

import subprocess
import sys
from pathlib import Path

import pytest

from difffs.cli.main import main

CONTENT = b"page " * 30_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one volume, `volume`."""
    image = tmp_path / "image"
    image.write_bytes(CONTENT)
    path = tmp_path / "store"
    assert main(["import", str(path), str(image), "volume"]) == 0
    return path


def shell(script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `difffs` is this one and $1, $2, ... are the words."""
    return subprocess.run(
        [
            "bash",
            "-c",
            f'difffs() {{ {sys.executable} -m difffs "$@"; }}\n{script}',
            "bash",
            *words,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_import_from_a_closed_stdin_is_no_empty_volume(store: Path) -> None:
    done = shell("difffs import $1 - new <&-", store)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert main(["export", str(store), "new", "-"]) == 10


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_commands_work_with_closed_descriptors(store: Path, closed: str) -> None:
    done = shell(f"difffs stats $1 {closed} && difffs check $1 {closed}", store)
    assert done.returncode == 0
    assert "clean" in done.stdout
    assert done.stderr == ""
    done = shell(f"difffs export $1 volume - {closed}", store)
    assert done.stdout.encode() == CONTENT


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_import_with_closed_descriptors_keeps_its_files_apart(
    store: Path, tmp_path: Path, closed: str
) -> None:
    shell(f"difffs import $1 $2 again {closed}", store, tmp_path / "image")
    assert main(["check", str(store)]) == 0
    assert main(["export", str(store), "again", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes() == CONTENT
