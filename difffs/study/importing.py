"""Imports whole corpora with a recipe, as ``difffs import`` does, and collects the statistics."""

from __future__ import annotations

import os
import resource
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from difffs import stats
from difffs.codec import Codec
from difffs.engine import BATCH_PAGES, Engine
from difffs.page import PAGE_SIZE
from difffs.recipe import Recipe
from difffs.store import Store
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.corpus import Image
from difffs.study.passes import Pass

RECIPE_PASS_VERSION = 3


def batches(image: Image) -> Iterator[tuple[int, memoryview]]:
    """Iterate over (first page, up to BATCH_PAGES pages) of an image; holes read as zeros."""
    size = BATCH_PAGES * PAGE_SIZE
    with image.mapped() as pages:
        for start in range(0, len(pages), size):
            with pages[start : start + size] as batch:
                yield start // PAGE_SIZE, batch


def import_image(
    engine: Engine,
    image: Image,
    name: str,
    observe: Callable[[Engine, int, memoryview], None] | None = None,
) -> None:
    """Make a volume of an image and commit it.

    `observe`, told (engine, first page, pages), sees each batch between route() and adopt().
    """
    store = engine.store
    with store.lock:
        inode = store.namespace.create("/" + name, 0o600, os.getuid(), os.getgid())
    for first, pages in batches(image):
        numbers = array("Q", range(first, first + len(pages) // PAGE_SIZE))
        if observe is None:
            engine.write(inode.number, numbers, pages)
        else:
            ids = engine.route(pages)
            observe(engine, first, pages)
            engine.adopt(ids, [(inode.number, numbers, ids)])
    with store.lock:
        store.namespace.set_size(inode, image.pages * PAGE_SIZE)
    engine.commit()


def volume_name(number: int, image: Image) -> str:
    """Return what the volume of a corpus's image is called, by the image's place in it."""
    return f"{number}-{image.name}"


def add_image(path: Path, recipe: Recipe, number: int, image: Image) -> float:
    """Import one image of a corpus, counted from 0, into its store, as ``difffs import`` does; the
    first one makes the store. Return the seconds of the import, without opening and closing."""
    opened = Store.open(path) if number else Store.create(path, recipe)
    with opened as store, Engine(store) as engine:
        began = time.monotonic()
        import_image(engine, image, volume_name(number, image))
        return time.monotonic() - began


def import_pass(images: tuple[Image, ...], recipe: Recipe) -> Pass:
    """Return the pass that imports a corpus with a recipe: the same one for every section."""
    return Pass(
        "import",
        RECIPE_PASS_VERSION,
        recipe_pass,
        images,
        {"recipe": recipe.to_dict()},
        large=recipe.compress_codec is Codec.NONE,
    )


def recipe_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Import the images into one new store, as one ``difffs import`` after the other does, and
    return the statistics of the closed store.

    Parameters: `recipe` (Recipe.to_dict()), `verify` (read everything back and compare).
    The result is what ``difffs stats --json`` gives, with `seconds`, `pages_per_second` (of the
    import, durable at its end), `peak_rss` in bytes, and `images`: for each its `name`, and the
    `pages`, `bytes` and `factor` of what it added to the store.
    """
    recipe = Recipe.from_dict(dict(parameters["recipe"]))
    path = folder / "store"
    images_added = []
    seconds = 0.0
    before: Result | None = None
    for number, image in enumerate(images):
        seconds += add_image(path, recipe, number, image)
        with closing(Store.open(path, read_only=True)) as store:
            now = stats.collect(store)
        images_added.append({"name": image.name, **_added(now, before)})
        before = now
    result: Result = dict(before or {})
    result.pop("store", None)  # a folder that is gone by now
    if parameters.get("verify"):
        with closing(Store.open(path, read_only=True)) as store, Engine(store) as engine:
            _compare(engine, images)
    result["seconds"] = seconds
    result["pages_per_second"] = result["pages"]["total"] / max(seconds, 1e-9)
    result["peak_rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result["images"] = images_added
    return result


def _added(now: Result, before: Result | None) -> Result:
    added: Result = {
        part: {
            key: count - (before[part][key] if before else 0) for key, count in now[part].items()
        }
        for part in ("pages", "bytes")
    }
    return {**added, "factor": added["bytes"]["logical"] / max(1, added["bytes"]["stored"])}


def merge_imports(results: Mapping[str, Result]) -> Result:
    """Sum up what recipe_pass() said of several corpora: `recipe`, `pages`, `bytes`, `factor`,
    `seconds`, `pages_per_second`, `images`, and each corpus's own figures in `corpora`.
    """
    every = list(results.values())
    sums: Result = {
        part: {key: sum(result[part][key] for result in every) for key in every[0][part]}
        for part in ("pages", "bytes")
    }
    seconds = sum(result["seconds"] for result in every)
    return {
        "recipe": every[0]["recipe"],
        **sums,
        "factor": sums["bytes"]["logical"] / max(1, sums["bytes"]["stored"]),
        "seconds": seconds,
        "pages_per_second": sums["pages"]["total"] / max(seconds, 1e-9),
        "images": [
            {"corpus": corpus, **image}
            for corpus, result in results.items()
            for image in result["images"]
        ],
        "corpora": dict(results),
    }


def timed_imports(context: Context, recipe: Recipe) -> dict[str, Result]:
    """Import each corpus with nothing else beside it, and read it back; the results by corpus."""
    return context.each_corpus(
        "timed-import",
        RECIPE_PASS_VERSION,
        recipe_pass,
        timed=True,
        recipe=recipe.to_dict(),
        verify=True,
    )


def _compare(engine: Engine, images: Sequence[Image]) -> None:
    for number, image in enumerate(images):
        inode = engine.store.namespace.lookup(f"/{volume_name(number, image)}")
        for first, pages in batches(image):
            out = bytearray(len(pages))
            engine.read(inode.number, first, len(pages) // PAGE_SIZE, out)
            if out != pages:
                raise AssertionError(f"{image.path}: pages from {first} on read back differently")
