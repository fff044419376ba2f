"""Imports of corpora: the same figures as the command's, whoever makes them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from difffs.cli.main import main
from difffs.engine import Engine
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.store import Store
from difffs.study.context import Context
from difffs.study.corpus import Corpus
from difffs.study.importing import (
    RECIPE_PASS_VERSION,
    _compare,
    batches,
    import_image,
    merge_imports,
    recipe_pass,
)


def imported(corpus: Corpus, folder: Path, recipe: str, **parameters: object) -> dict[str, Any]:
    folder.mkdir()
    values = {"recipe": RECIPES[recipe].to_dict(), **parameters}
    return recipe_pass(corpus.images, folder, values)


def test_batches_are_the_whole_image(corpora: list[Corpus]) -> None:
    image = corpora[0].images[0]
    joined = b""
    for first, pages in batches(image):
        assert first * PAGE_SIZE == len(joined)
        joined += pages
    assert joined == image.path.read_bytes()


@pytest.mark.parametrize("recipe", ["default", "identical-only"])
def test_figures_are_those_of_the_command(
    corpora: list[Corpus], scratch_folder: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = corpora[0]
    found = imported(corpus, scratch_folder / "pass", recipe, verify=True)
    store = str(scratch_folder / "store")
    for number, image in enumerate(corpus.images):
        name = f"{number}-{image.name}"
        assert main(["import", "--recipe", recipe, store, str(image.path), name]) == 0
    capsys.readouterr()
    assert main(["stats", "--json", store]) == 0
    shown = json.loads(capsys.readouterr().out)
    for key in ("pages", "bytes", "factor"):
        assert found[key] == shown[key]
    assert found["bytes"]["logical"] == corpus.bytes
    assert found["pages"]["total"] == corpus.pages
    assert found["pages_per_second"] == pytest.approx(corpus.pages / found["seconds"])
    images = found["images"]
    assert [image["pages"]["total"] for image in images] == [i.pages for i in corpus.images]
    for part in ("pages", "bytes"):
        for key, whole in found[part].items():
            assert sum(image[part][key] for image in images) == whole
    first = images[0]["bytes"]
    assert images[0]["factor"] == first["logical"] / first["stored"]


def test_imports_of_corpora_are_summed_up(corpora: list[Corpus], scratch_folder: Path) -> None:
    results = {
        corpus.name: imported(corpus, scratch_folder / corpus.name, "default") for corpus in corpora
    }
    merged = merge_imports(results)
    assert merged["corpora"] == results
    assert merged["pages"]["total"] == sum(corpus.pages for corpus in corpora)
    stored = sum(result["bytes"]["stored"] for result in results.values())
    assert merged["factor"] == sum(corpus.bytes for corpus in corpora) / stored
    assert [(image["corpus"], image["name"]) for image in merged["images"]] == [
        (corpus.name, image.name) for corpus in corpora for image in corpus.images
    ]


def test_sizes_come_out_the_same_each_time(context: Context, scratch_folder: Path) -> None:
    recipe = RECIPES["default"].to_dict()
    once = context.each_corpus("import", RECIPE_PASS_VERSION, recipe_pass, recipe=recipe)
    for corpus in context.corpora:
        again = imported(corpus, scratch_folder / corpus.name, "default")
        for key in ("pages", "bytes", "factor", "routes", "images"):
            assert counted(again[key]) == counted(once[corpus.name][key])


def counted(value: Any) -> Any:
    """Without what is measured by the clock."""
    if isinstance(value, dict):
        return {key: counted(one) for key, one in value.items() if not key.endswith("_us")}
    return value


def test_an_observer_sees_every_page_before_it_is_there(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    image = corpora[0].images[0]
    seen = []
    with (
        Store.create(scratch_folder / "store", RECIPES["default"]) as store,
        Engine(store) as engine,
    ):

        def observe(observed: Engine, first: int, pages: memoryview) -> None:
            assert observed is engine
            assert store.page_counts()["total"] == first
            seen.append((first, bytes(pages)))

        import_image(engine, image, "vm", observe)
        out = bytearray(image.pages * PAGE_SIZE)
        engine.read(store.namespace.lookup("/vm").number, 0, image.pages, out)
    assert b"".join(pages for _first, pages in seen) == out == image.path.read_bytes()


def test_a_page_that_reads_back_differently_is_noticed(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    """The comparison itself: the same store, another image."""
    one, two = corpora[0].images
    with (
        Store.create(scratch_folder / "store", RECIPES["default"]) as store,
        Engine(store) as engine,
    ):
        import_image(engine, one, f"0-{one.name}")
        _compare(engine, [one])
        with pytest.raises(AssertionError, match="differently"):
            _compare(engine, [replace(two, name=one.name)])
