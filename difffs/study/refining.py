"""Refines stores of whole corpora, as ``difffs refine`` does, and reads what comes of it."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import accumulate
from pathlib import Path
from typing import Any

from difffs import stats
from difffs.page import PAGE_SIZE
from difffs.recipe import Recipe
from difffs.refine.refiner import Refiner
from difffs.refine.tiers import tier_named
from difffs.store import Store
from difffs.store.page_tables import ZERO
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.importing import add_image, volume_name

REFINE_PASS_VERSION = 1

AS_STORED = ""
"""In place of a tier: the store is read as it was imported."""

_AT_ONCE = 256
"""Pages that are asked for at a time (1 MiB) when they are read in order."""


def refine_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Import the images into one new store, refine it, and read it, each after opening it anew.

    Parameters: `recipe` (Recipe.to_dict()), `tier` (its name or AS_STORED), `pages` (how many are
    read by chance) and `seed`.
    The result: `bytes`, `factor` and `tiers` of the closed store, as ``difffs stats --json`` gives
    them; `stored` pages, those in groups included; `refined`, the stored pages that had their turn;
    `seconds` of the processor, of the import or of refining; and what read() returns. Everything is
    done by one thread at a time.
    """
    path = folder / "store"
    recipe, tier = Recipe.from_dict(dict(parameters["recipe"])), parameters["tier"]
    began = time.process_time()
    for number, image in enumerate(images):
        add_image(path, recipe, number, image)
    seconds = time.process_time() - began
    refined = 0
    if tier != AS_STORED:
        with Store.open(path) as store:
            began = time.process_time()
            refined = Refiner(store, tier_named(tier)).run().pages
            seconds = time.process_time() - began
    with closing(Store.open(path, read_only=True)) as store:
        found = stats.collect(store)
        reads = read(store, images, parameters["pages"], parameters["seed"])
    groups = sum(each.get("groups", 0) for each in found["tiers"].values())
    return {
        **{key: found[key] for key in ("bytes", "factor")},
        "tiers": {key: one for key, one in found["tiers"].items() if key != "reads"},
        "stored": found["objects"] - groups,
        "refined": refined,
        "seconds": seconds,
        **reads,
    }


def read(store: Store, images: Sequence[Image], count: int, seed: int) -> Result:
    """Read `count` stored pages of all volumes by chance, one at a time, then the first volume in
    order, and compare all of them with the images: AssertionError where one differs.

    The result: `decode_us`, the microseconds of each page by chance, ascending; `in_order`, with
    `pages`, `seconds`, and of the pages that are in groups how many were `asked` for, and how many
    `decoded` for that. Times are those of the processor, which others cannot make longer by being
    scheduled in between.
    """
    with ExitStack() as stack:
        volumes = [
            _Volume(store, number, image, stack.enter_context(image.mapped()))
            for number, image in enumerate(images)
        ]
        spent = [
            volumes[number].read(page, 1) * 1e6 for number, page in _by_chance(volumes, count, seed)
        ]
        asked, decoded = store.extents.members_read
        pages = images[0].pages
        seconds = sum(
            volumes[0].read(first, min(_AT_ONCE, pages - first))
            for first in range(0, pages, _AT_ONCE)
        )
    asked_in_all, decoded_in_all = store.extents.members_read
    return {
        "decode_us": sorted(spent),
        "in_order": {
            "pages": pages,
            "seconds": seconds,
            "asked": asked_in_all - asked,
            "decoded": decoded_in_all - decoded,
        },
    }


class _Volume:
    """A volume, and the image that it was made of."""

    def __init__(self, store: Store, number: int, image: Image, content: memoryview) -> None:
        self._store = store
        self._volume = store.namespace.lookup(f"/{volume_name(number, image)}").number
        self._image = image
        self._content = content
        self._out = bytearray(_AT_ONCE * PAGE_SIZE)

    def stored_pages(self) -> list[int]:
        """The pages that are neither holes nor zeros."""
        ids = self._store.lookup(self._volume, 0, self._image.pages)
        return [page for page, each in enumerate(ids) if each > ZERO]

    def read(self, first: int, count: int) -> float:
        """Read pages and return the seconds that this thread took. AssertionError when they
        differ."""
        began = time.thread_time()
        self._store.read_pages(self._volume, first, count, self._out)
        seconds = time.thread_time() - began
        size = count * PAGE_SIZE
        offset = first * PAGE_SIZE
        if self._out[:size] != self._content[offset : offset + size]:
            raise AssertionError(f"{self._image.path}: pages from {first} on read back differently")
        return seconds


def _by_chance(volumes: Sequence[_Volume], count: int, seed: int) -> list[tuple[int, int]]:
    """(volume, page) of up to `count` stored pages."""
    stored = [volume.stored_pages() for volume in volumes]
    ends = list(accumulate(map(len, stored)))
    chosen = random.Random(seed).sample(range(ends[-1]), min(count, ends[-1]))
    places = []
    for place in chosen:
        number = bisect_right(ends, place)
        places.append((number, stored[number][place - ends[number]]))  # counted from its end
    return places
