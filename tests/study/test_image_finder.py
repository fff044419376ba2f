"""Images by content: where a worker finds them, and where it does not."""

from dataclasses import replace
from pathlib import Path

import pytest

from difffs.errors import OutputProblem
from difffs.study import image_finder
from difffs.study.corpus import Image
from difffs.study.image_finder import FOLDERS_VARIABLE, ImageFinder, share, shared_file


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image of two pages."""
    path = tmp_path / "given" / "guest.mem"
    path.parent.mkdir()
    path.write_bytes(b"page" * 2048)
    return Image.of(path)


def test_it_is_found_at_its_path_as_long_as_it_is_the_same(image: Image, tmp_path: Path) -> None:
    finder = ImageFinder([])
    assert finder.find(image, tmp_path) == image.path
    image.path.write_bytes(b"PAGE" * 2048)
    assert finder.find(image, tmp_path) is None


def test_it_is_read_once(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finder = ImageFinder([])
    assert finder.find(image, tmp_path) == image.path
    monkeypatch.setattr(image_finder, "digest_of_file", lambda _path: pytest.fail("read again"))
    assert finder.find(image, tmp_path) == image.path


def test_files_of_another_size_are_not_read(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_finder, "digest_of_file", lambda _path: pytest.fail("read"))
    image.path.write_bytes(bytes(4096))
    assert ImageFinder([tmp_path]).find(image, tmp_path) is None


def test_it_is_found_under_another_name_in_a_folder(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "data" / "deep" / "renamed"
    other.parent.mkdir(parents=True)
    (other.parent / "guest.mem").write_bytes(b"same" * 2048)  # its name, and not its content
    image.path.rename(other)
    monkeypatch.setenv(FOLDERS_VARIABLE, f"/nowhere:{tmp_path / 'data'}")
    assert ImageFinder.of_environment().find(image, tmp_path) == other
    monkeypatch.delenv(FOLDERS_VARIABLE)
    assert ImageFinder.of_environment().find(image, tmp_path) is None


def test_shared_ones_are_found_by_content(image: Image, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    share(image, cache)
    image.path.unlink()
    share(image, cache)  # it is there, so that nothing is read
    assert ImageFinder([]).find(image, cache) == shared_file(cache, image)
    assert [path.name for path in (cache / "images").iterdir()] == [f"{image.sha256}.mem"]


def test_sharing_without_room_is_said_and_leaves_nothing(image: Image, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    with pytest.raises(OutputProblem, match="cannot be written: No such file"):
        share(replace(image, path=tmp_path / "gone"), cache)
    assert list((cache / "images").iterdir()) == []
