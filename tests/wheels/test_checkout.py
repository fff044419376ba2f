"""What is taken of the checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from wheels import checkout, test_setup
from wheels.running import WheelError


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a file of each kind: changed, removed, unknown to git."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    folder = tmp_path / "checkout"
    (folder / "inner").mkdir(parents=True)
    for name in ("kept", "inner/changed", "removed"):
        (folder / name).write_text("as committed")
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "add", "."], check=True)
    (folder / "inner/changed").write_text("as it is now")
    (folder / "removed").unlink()
    (folder / "unknown").write_text("lies about")
    monkeypatch.setattr(checkout, "CHECKOUT", folder)
    return folder


def test_what_git_knows_as_it_is_now(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    checkout.copy_tracked_files(copy)
    found = {str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file()}
    assert found == {"kept", "inner/changed"}
    assert (copy / "inner/changed").read_text() == "as it is now"


def test_a_folder_that_is_no_checkout(repository: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository / ".git")
    with pytest.raises(WheelError, match="is no checkout: "):
        checkout.copy_tracked_files(tmp_path / "copy")


def test_the_commands_are_those_that_the_readme_begins_with() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = [line.split("#")[0].strip() for line in readme.splitlines() if line.startswith("    ")]
    assert tuple(block[:2]) == test_setup.COMMANDS
