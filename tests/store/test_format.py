"""What marks a directory as a store."""

from pathlib import Path

import pytest

from difffs.errors import CorruptStore, DifffsError, FormatTooNew, NotAStore
from difffs.store.format import (
    FORMAT_VERSION,
    StoreFormat,
    is_store,
    read_format,
    write_format,
)

ID = bytes(range(16))


def test_what_is_written_is_accepted(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    write_format(tmp_path, ID)
    assert is_store(tmp_path)
    assert read_format(tmp_path) == StoreFormat(FORMAT_VERSION, ID)


def test_the_first_version_has_no_id(tmp_path: Path) -> None:
    (tmp_path / "format").write_text("difffs store\nversion 1\n")
    assert read_format(tmp_path) == StoreFormat(1, b"")


def test_the_first_lines_are_for_people(tmp_path: Path) -> None:
    write_format(tmp_path, ID)
    assert (tmp_path / "format").read_text() == (
        f"difffs store\nversion {FORMAT_VERSION}\nid 000102030405060708090a0b0c0d0e0f\n"
    )


@pytest.mark.parametrize("name", ["nothing", "file", "file/below", "folder"])
def test_other_things_are_not_stores(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotAStore, match=f"{tmp_path / name} is not a difffs store"):
        read_format(tmp_path / name)
    assert not is_store(tmp_path / name)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(f"difffs store\nversion {FORMAT_VERSION + 1}\nmore: here\n")
    with pytest.raises(FormatTooNew, match="use a newer difffs"):
        read_format(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"difffs store",
        b"difffs store\n",
        b"difffs store\nversion \n",
        b"difffs store\nversion x\n",
        b"difffs store\nversion -1\n",
        b"difffs store\nversion 0\n",
        b"difffs store\nversion 2\n",
        b"difffs store\nversion 2\nid 0123\n",
        b"difffs store\nversion 2\nname 000102030405060708090a0b0c0d0e0f\n",
        b"difffs store\nrelease 1\n",
        b"another store\nversion 1\n",
        b"\xff\xfe\x00" * 100,
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "format").write_bytes(content)
    with pytest.raises(CorruptStore) as caught:
        read_format(tmp_path)
    assert str(tmp_path / "format") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_in_its_place_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "format").mkdir()
    with pytest.raises(DifffsError, match="format"):
        read_format(tmp_path)
