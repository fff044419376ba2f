"""Which files count, and in which order."""

from pathlib import Path

import pytest

from difffs.configuration.files import configuration_files, read
from difffs.errors import ConfigurationProblem


def write(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in configuration_files(root)]


def test_nothing_is_nothing(tmp_path: Path) -> None:
    assert configuration_files(tmp_path) == []
    assert read([]).sections == {}


def test_the_first_main_file_counts(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/difffs.conf")
    assert names(tmp_path) == ["usr/lib/difffs.conf"]
    write(tmp_path, "run/difffs.conf")
    assert names(tmp_path) == ["run/difffs.conf"]
    write(tmp_path, "etc/difffs.conf")
    assert names(tmp_path) == ["etc/difffs.conf"]


def test_pieces_come_by_name_and_the_earlier_folder_takes_its_name(tmp_path: Path) -> None:
    write(tmp_path, "etc/difffs.conf")
    write(tmp_path, "usr/lib/difffs.conf.d/30-last.conf")
    write(tmp_path, "etc/difffs.conf.d/20-middle.conf")
    write(tmp_path, "usr/lib/difffs.conf.d/20-middle.conf")
    write(tmp_path, "run/difffs.conf.d/10-first.conf")
    write(tmp_path, "etc/difffs.conf.d/ignored.conf.bak")
    write(tmp_path, "etc/difffs.conf.d/.hidden.conf")
    assert names(tmp_path) == [
        "etc/difffs.conf",
        "run/difffs.conf.d/10-first.conf",
        "etc/difffs.conf.d/20-middle.conf",
        "usr/lib/difffs.conf.d/30-last.conf",
    ]


def test_a_link_to_nowhere_takes_a_piece_away(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/difffs.conf.d/10.conf", "[mount a]\nstore = /srv/a\n")
    assert read(configuration_files(tmp_path)).sections
    (tmp_path / "etc/difffs.conf.d").mkdir(parents=True)
    (tmp_path / "etc/difffs.conf.d/10.conf").symlink_to("/dev/null")
    assert names(tmp_path) == ["etc/difffs.conf.d/10.conf"]
    assert read(configuration_files(tmp_path)).sections == {}


def test_later_files_replace_single_keys(tmp_path: Path) -> None:
    first = write(tmp_path, "1.conf", "[swap a]\nstore = /srv/a\nsize = 1G\n[mount b]\n")
    second = write(tmp_path, "2.conf", "\n[swap a]\nsize = 2G\n[mount c]\n")
    found = read([first, second])
    assert found.paths == (first, second)
    assert list(found.sections) == [("swap", "a"), ("mount", "b"), ("mount", "c")]
    values = found.sections["swap", "a"].values
    assert {key: (value.text, str(value.place)) for key, value in values.items()} == {
        "store": ("/srv/a", f"{first}:2"),
        "size": ("2G", f"{second}:3"),
    }


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/difffs.conf").symlink_to("gone")
    with pytest.raises(
        ConfigurationProblem, match=r"etc/difffs\.conf cannot be read: No such file"
    ):
        read(configuration_files(tmp_path))
    (tmp_path / "etc/difffs.conf").unlink()
    (tmp_path / "etc/difffs.conf").mkdir()
    with pytest.raises(ConfigurationProblem, match=r"cannot be read: Is a directory"):
        read(configuration_files(tmp_path))
