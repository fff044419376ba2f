"""Real pairs: pages and the bases that the product's own router proposes for them.

Taken while a corpus is imported with the recipe ``patch-only``: that one tries every candidate
that the sketch finds and takes each patch that is smaller than the page, so that the sample is
not chosen by how well one patcher does.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difffs._kernels import Context
from difffs.engine import Engine
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.store import Store
from difffs.study.corpus import Image
from difffs.study.importing import import_image


@dataclass(frozen=True, slots=True)
class Pair:
    """A page and the stored page that it is like."""

    page: bytes
    base: bytes


def sample_pairs(
    images: Sequence[Image], folder: Path, count: int, seed: int
) -> tuple[list[Pair], int]:
    """Return up to `count` pairs, drawn evenly from all, and how many there are in all."""
    found: list[Pair] = []
    seen = 0
    chance = random.Random(seed)

    def observe(engine: Engine, _first: int, pages: memoryview) -> None:
        nonlocal seen
        for index, base_id in engine.patches():
            seen += 1
            # reservoir sampling (Vitter's algorithm R): memory for `count` pairs only
            place = len(found) if len(found) < count else chance.randrange(seen)
            if place >= count:
                continue
            base = bytearray(PAGE_SIZE)
            failure = engine.store.extents.read(array("I", [base_id]), base, context)
            assert failure is None, failure
            start = index * PAGE_SIZE
            pair = Pair(bytes(pages[start : start + PAGE_SIZE]), bytes(base))
            if place == len(found):
                found.append(pair)
            else:
                found[place] = pair

    context = Context()
    with Store.create(folder / "pairs", RECIPES["patch-only"]) as store, Engine(store) as engine:
        for number, image in enumerate(images):
            import_image(engine, image, f"{number}-{image.name}", observe)
    return found, seen


def pair_parameters(sample: int, seed: int) -> Mapping[str, Any]:
    """Return what passes over pairs have in common."""
    return {"sample": sample, "seed": seed}
