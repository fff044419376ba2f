"""Excerpts of images: where their pages come from, and what an import of them counts."""

from pathlib import Path

import pytest

from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study.corpus import Corpus, Image
from difffs.study.excerpt import WINDOW_PAGES, excerpt, excerpt_pass


def numbered_image(path: Path, pages: int) -> Image:
    """Each page begins with its number."""
    path.write_bytes(b"".join(i.to_bytes(PAGE_SIZE, "little") for i in range(pages)))
    return Image.of(path)


def pages_of(image: Image) -> list[int]:
    content = image.path.read_bytes()
    assert len(content) == image.pages * PAGE_SIZE
    return [
        int.from_bytes(content[i : i + PAGE_SIZE], "little")
        for i in range(0, len(content), PAGE_SIZE)
    ]


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    """Of 8 windows, of 8, of one page, and of five windows and a half."""
    sizes = [8 * WINDOW_PAGES, 8 * WINDOW_PAGES, 1, 5 * WINDOW_PAGES + WINDOW_PAGES // 2]
    return [numbered_image(tmp_path / f"{i}.mem", size) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("seed", range(6))
def test_windows_are_whole_and_at_the_same_places(
    images: list[Image], tmp_path: Path, seed: int
) -> None:
    (folder := tmp_path / "excerpt").mkdir()
    whole = {image.name: image for image in images}
    parts = excerpt(images, folder, 9 * WINDOW_PAGES, seed)
    windows: set[int] = set()
    for part in parts:
        found = pages_of(part)
        assert found == sorted(set(found))
        chosen = {number // WINDOW_PAGES for number in found}
        windows |= chosen
        assert found == [
            number for number in range(whole[part.name].pages) if number // WINDOW_PAGES in chosen
        ]
    assert len(windows) == 3  # of 8: nine of 21.5 windows
    for part in parts:
        possible = {window for window in windows if window * WINDOW_PAGES < whole[part.name].pages}
        assert {number // WINDOW_PAGES for number in pages_of(part)} == possible
    named = [part.name for part in parts]
    assert named == [name for name in whole if name != "2" or 0 in windows]


def test_other_seeds_choose_other_windows(images: list[Image], tmp_path: Path) -> None:
    chosen = set()
    for seed in range(8):
        (folder := tmp_path / str(seed)).mkdir()
        first, *_others = excerpt(images, folder, 3 * WINDOW_PAGES, seed)
        again = pages_of(first)
        assert pages_of(excerpt(images, folder, 3 * WINDOW_PAGES, seed)[0]) == again
        chosen.add(again[0])
    assert len(chosen) > 1


def test_small_corpora_are_taken_whole(images: list[Image], tmp_path: Path) -> None:
    total = sum(image.pages for image in images)
    assert excerpt(images, tmp_path, total, 1) == images
    assert excerpt(images, tmp_path, total - 1, 1) != images


def test_an_import_counts_the_excerpt(corpora: list[Corpus], scratch_folder: Path) -> None:
    (corpus, _other) = corpora
    parameters = {"recipe": RECIPES["fast"].to_dict(), "pages": 600, "seed": 3, "verify": True}
    result = excerpt_pass(corpus.images, scratch_folder, parameters)
    assert result["pages"]["total"] == sum(each["pages"]["total"] for each in result["images"])
    assert 0 < result["pages"]["total"] < corpus.pages
    assert result["recipe"] == "fast"
