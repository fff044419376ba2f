"""Which Pythons are found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from wheels import interpreters


def test_this_python_is_one() -> None:
    assert interpreters.version_of(Path(sys.executable)) == "{}.{}".format(*sys.version_info)


def test_what_is_no_python_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert interpreters.version_of(broken) is None
    assert interpreters.version_of(tmp_path / "absent") is None


def test_a_broken_one_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shims of version managers do: there by name, and nothing behind it."""
    version = "{}.{}".format(*sys.version_info)
    for folder, target in (("first", "/bin/false"), ("second", sys.executable)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"python{version}").symlink_to(target)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second")]))
    assert version in interpreters.found_here()
