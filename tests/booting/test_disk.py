"""What goes into the guest that boots with difffs's units."""

import ast
import platform

import pytest
from booting import disk

from difffs.configuration.files import read
from difffs.configuration.keys import entries
from difffs.mount.options import parse_options


def test_the_configuration_is_that_of_the_units_that_are_enabled() -> None:
    found = entries(read([disk.BOOTS.files / "difffs.conf"]))
    for one in found:
        assert one.unit in disk.BOOTS.enabled
        assert one.kind.unit in disk.UNITS
    assert sum("@" in unit for unit in disk.BOOTS.enabled) == len(found)


def test_the_lines_of_fstab_are_right() -> None:
    mounts = [line.split() for line in disk.BOOTS.mounts if "fuse.difffs" in line]
    assert len(mounts) == 2
    for words in mounts:
        parse_options([words[3]])


def test_its_programs_are_python() -> None:
    programs = [path for path in disk.BOOTS.files.iterdir() if not path.suffix]
    assert programs
    for path in programs:
        ast.parse(path.read_text())
        assert path.stat().st_mode & 0o111


@pytest.mark.parametrize("codename", ["bullseye", "noble", None])
def test_where_no_wheel_would_run(codename: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    release = {} if codename is None else {"VERSION_CODENAME": codename}
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    assert "neither Debian 12 nor 13" in str(disk.obstacle())
