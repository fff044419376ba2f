"""Refined stores of corpora: the same figures as the commands', and the images come back."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from difffs.cli.main import main
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.refine.tiers import COLD, REST, TIERS
from difffs.store import Store
from difffs.study import refining
from difffs.study.corpus import Corpus, Image
from difffs.study.importing import add_image, volume_name
from difffs.study.refining import AS_STORED, read, refine_pass
from tests.pages import same_filled_page
from tests.study.times_apart import without_times

DEFAULT = RECIPES["default"]


def refined(
    images: Sequence[Image], folder: Path, tier: str, pages: int = 50, seed: int = 3
) -> dict[str, Any]:
    folder.mkdir()
    parameters = {"recipe": DEFAULT.to_dict(), "tier": tier, "pages": pages, "seed": seed}
    return refine_pass(images, folder, parameters)


@pytest.mark.parametrize("tier", [AS_STORED, *TIERS])
def test_figures_are_those_of_the_commands(
    corpora: list[Corpus], scratch_folder: Path, tier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = corpora[0]
    found = refined(corpus.images, scratch_folder / "pass", tier)
    store = str(scratch_folder / "store")
    for number, image in enumerate(corpus.images):
        assert main(["import", store, str(image.path), volume_name(number, image)]) == 0
    capsys.readouterr()
    if tier != AS_STORED:
        assert main(["refine", "--tier", tier, "--workers", "1", "--json", store]) == 0
        done = json.loads(capsys.readouterr().out)
        assert found["refined"] == done["pages"] > 0
        assert found["tiers"][tier]["objects"] == done["members"] > 0
        assert found["tiers"][tier]["groups"] == done["groups"]
    else:
        assert found["refined"] == 0
        assert all(found["tiers"][name]["objects"] == 0 for name in TIERS)
    assert main(["stats", "--json", store]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert found["bytes"] == shown["bytes"]
    assert found["factor"] == shown["factor"]
    assert found["tiers"] == {name: shown["tiers"][name] for name in ("none", *TIERS)}
    assert found["stored"] == sum(one["objects"] for one in found["tiers"].values())
    assert found["seconds"] > 0


def test_each_tier_is_denser_than_the_one_before(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    for corpus in corpora:
        factors = [
            refined(corpus.images, scratch_folder / f"{corpus.name}-{tier}", tier)["factor"]
            for tier in (AS_STORED, COLD.name, REST.name)
        ]
        assert factors == sorted(set(factors))


def test_all_but_times_comes_out_the_same_each_time(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    one, two = (
        without_times(refined(corpora[0].images, scratch_folder / name, COLD.name))
        for name in ("one", "two")
    )
    assert one == two


# ---------------------------------------------------------------------------------------- reading


@pytest.fixture
def store(corpora: list[Corpus], scratch_folder: Path) -> Path:
    path = scratch_folder / "store"
    for number, image in enumerate(corpora[0].images):
        add_image(path, DEFAULT, number, image)
    return path


def test_pages_are_read_by_chance_and_then_in_order(corpora: list[Corpus], store: Path) -> None:
    images = corpora[0].images
    with Store.open(store, read_only=True) as opened:
        found = read(opened, images, 40, 1)
    assert len(found["decode_us"]) == 40
    assert found["decode_us"] == sorted(found["decode_us"])
    assert found["decode_us"][0] > 0
    assert found["in_order"]["pages"] == images[0].pages
    assert found["in_order"]["asked"] == found["in_order"]["decoded"] == 0, "there is no group"


def test_what_is_in_groups_is_counted_in_order_alone(corpora: list[Corpus], store: Path) -> None:
    assert main(["refine", "--tier", "cold", str(store)]) == 0
    images = corpora[0].images
    for count in (0, 500):
        with Store.open(store, read_only=True) as opened:
            in_order = read(opened, images, count, 1)["in_order"]
            asked, decoded = opened.extents.members_read
        assert 0 < in_order["asked"] <= images[0].pages
        assert (in_order["asked"] < asked) == (count > 0)
        assert in_order["decoded"] <= decoded


def test_pages_by_chance_are_of_all_volumes_and_no_zeros(
    corpora: list[Corpus], store: Path
) -> None:
    images = corpora[0].images
    contents = [image.path.read_bytes() for image in images]
    zeros = bytes(PAGE_SIZE)
    expected = {
        (number, page)
        for number, content in enumerate(contents)
        for page in range(len(content) // PAGE_SIZE)
        if content[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] != zeros
    }
    with Store.open(store, read_only=True) as opened:
        volumes = [
            refining._Volume(opened, number, image, memoryview(content))
            for number, (image, content) in enumerate(zip(images, contents, strict=True))
        ]
        every = refining._by_chance(volumes, 10**6, 1)
        some, again, others = (refining._by_chance(volumes, 30, seed) for seed in (1, 1, 2))
    assert len(every) == len(expected) < sum(image.pages for image in images)
    assert set(every) == expected
    assert some == again != others
    assert len(set(some)) == 30
    assert {number for number, _page in some} == {0, 1}


def test_a_page_that_reads_back_differently_is_noticed(
    corpora: list[Corpus], store: Path, tmp_path: Path
) -> None:
    """The comparison itself: the same store, other images."""
    one, two = corpora[0].images
    wrong = [[replace(two, name=one.name), two], [one, replace(one, name=two.name)]]
    for images in wrong:
        with (
            Store.open(store, read_only=True) as opened,
            pytest.raises(AssertionError, match="read back differently"),
        ):
            read(opened, images, 200, 1)


def test_an_image_of_zeros_has_no_page_to_read_by_chance(
    tmp_path: Path, scratch_folder: Path
) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(600 * PAGE_SIZE))
    for tier in (AS_STORED, REST.name):
        found = refined([Image.of(path)], scratch_folder / f"of-{tier}", tier)
        assert found["decode_us"] == []
        assert found["in_order"]["pages"] == 600
        assert found["stored"] == found["refined"] == 0


def test_pages_of_one_repeated_word_are_in_no_group(tmp_path: Path, scratch_folder: Path) -> None:
    random = Random(5)
    path = tmp_path / "same.mem"
    path.write_bytes(b"".join(same_filled_page(random) for _ in range(300)))
    found = refined([Image.of(path)], scratch_folder / "pass", COLD.name)
    assert found["stored"] == found["tiers"]["none"]["objects"] > 0
    assert found["refined"] == 0
    assert len(found["decode_us"]) == 50
