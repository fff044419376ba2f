"""Passes that find similar pages: by each detector, by exact overlap, and as the product does.

Every detector sees the same pages in the same order: the distinct pages of a corpus, without those
of one repeated word. Its index has no bounds. A candidate is patched by zstd 1 with the base as
prefix, and the patch is taken by the default recipe's rule: clearly smaller than what zstd 1 makes
of the page alone.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from difffs._kernels import Context
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.store.format import SKETCH_FILE
from difffs.study import _kernels
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.detectors.catalogue import DETECTORS, PRODUCT
from difffs.study.detectors.detector import Detector
from difffs.study.distinct import DistinctPages
from difffs.study.importing import recipe_pass

DETECTOR_PASS_VERSION = 1
TIME_PASS_VERSION = 1
ORACLE_PASS_VERSION = 1
PRODUCT_PASS_VERSION = 1

SLOT_BYTES = 4
"""Of an index, for each page that it remembers for a feature; as in the product's table, where
they hold the page's number and a few bits of the feature."""

_BASE_ID_BYTES = 4
"""A patch names its base."""


def sample_numbers(pages: int, sample: int, seed: int) -> list[int]:
    """Return the numbers of up to `sample` pages, ascending: the same for every pass."""
    return sorted(random.Random(seed).sample(range(pages), min(sample, pages)))


# --------------------------------------------------------------------------------------- patching


@dataclass(slots=True)
class Tally:
    """What became of the pages that were counted."""

    pages: int = 0
    found: int = 0
    """Pages with a candidate at least."""
    tries: int = 0
    """Patches made."""
    taken: int = 0
    """Pages that are kept as a patch."""
    kept: int = 0
    """Bytes of all pages, patched or compressed, without the index."""

    def count(self, candidates: Sequence[int], alone: int, patched: int | None) -> None:
        """Count a page whose patch is taken (`patched` bytes) or not (None)."""
        self.pages += 1
        self.found += bool(candidates)
        self.tries += len(candidates)
        self.taken += patched is not None
        self.kept += alone if patched is None else patched


class Patcher:
    """Tries candidates as the default recipe would."""

    def __init__(self, pages: DistinctPages) -> None:
        """Compress all pages alone, by zstd 1 without a dictionary; what grows is kept raw."""
        self._pages = pages
        self._context = Context()
        self._recipe = RECIPES["default"]
        self.alone = array("I")
        for _first, content in pages.batches():
            _frames, lengths = _kernels.zstd_encode(content, PAGE_SIZE, 1)
            self.alone.extend(min(length, PAGE_SIZE) for length in lengths)

    def patched(self, page: bytes | memoryview, number: int, bases: Iterable[int]) -> int | None:
        """Return the bytes of the smallest patch, with its base's number; None if none is taken."""
        sizes = [self.size(page, base) for base in bases]
        smallest = min(sizes, default=PAGE_SIZE)
        taken = smallest * 256 < self.alone[number] * self._recipe.patch_ratio
        return smallest if taken else None

    def size(self, page: bytes | memoryview, base: int) -> int:
        """Return the bytes of a patch with its base's number."""
        level = self._recipe.patch_level
        patch = self._context.encode(self._recipe.patch_codec, page, self._pages[base], level)
        return PAGE_SIZE if patch is None else _BASE_ID_BYTES + len(patch)


# -------------------------------------------------------------------------------------- detectors


def detector_pass(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Find and patch all distinct pages of a corpus by each of some detectors.

    Parameters: `detectors` (names), `sample` and `seed` as for sample_numbers(). The result: the
    number of `pages`, the bytes that they take `alone`, the same for the sample (`sample_pages`,
    `sample_alone`), and `detectors`: by name
    - `whole` (a Tally): as in a store, where a page that is patched is no base;
    - `slots`: page numbers that the index of all bases then remembers;
    - `sample`: the part of `whole` that the sample has;
    - `sample_of_all`: the sample once more when each earlier page may be a base, as for the oracle.
    """
    with DistinctPages(images) as pages:
        patcher = Patcher(pages)
        chosen = sample_numbers(len(pages), parameters["sample"], parameters["seed"])
        return {
            "pages": len(pages),
            "alone": sum(patcher.alone),
            "sample_pages": len(chosen),
            "sample_alone": sum(patcher.alone[number] for number in chosen),
            "detectors": {
                name: _detect(DETECTORS[name], pages, patcher, chosen)
                for name in parameters["detectors"]
            },
        }


def _detect(
    detector: Detector, pages: DistinctPages, patcher: Patcher, chosen: Sequence[int]
) -> Result:
    sample = set(chosen)
    bases, everything = detector.index(), detector.index()
    whole, sampled, sampled_of_all = Tally(), Tally(), Tally()
    for first, content in pages.batches():
        features = detector.sketch(content)
        rows = memoryview(content)
        entered = 0
        for row in range(len(content) // PAGE_SIZE):
            number = first + row
            page = rows[row * PAGE_SIZE : (row + 1) * PAGE_SIZE]
            alone = patcher.alone[number]
            candidates = bases.find(features, row, detector.candidates)
            patched = patcher.patched(page, number, candidates)
            whole.count(candidates, alone, patched)
            if patched is None:
                bases.put(features, row, row + 1, number)
            if number in sample:
                sampled.count(candidates, alone, patched)
                everything.put(features, entered, row, first + entered)
                entered = row
                candidates = everything.find(features, row, detector.candidates)
                patched = patcher.patched(page, number, candidates)
                sampled_of_all.count(candidates, alone, patched)
        everything.put(features, entered, len(content) // PAGE_SIZE, first + entered)
    return {
        "whole": asdict(whole),
        "slots": bases.pages,
        "sample": asdict(sampled),
        "sample_of_all": asdict(sampled_of_all),
    }


def time_pass(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Time detectors on all distinct pages, in batches, with an index of all earlier ones.

    Processor time of one thread, so that a busy machine disturbs it less.

    Parameters: `detectors` (names), `sample` and `seed`. The result: by name `sketch_us` and
    `lookup_us` a page (finding candidates, and entering the page), and `try_us`: a patch of a page
    of the sample and the base that the product's sketch finds.
    """
    with DistinctPages(images) as pages:
        return {
            **_timed([DETECTORS[name] for name in parameters["detectors"]], pages),
            "try_us": _timed_tries(pages, parameters["sample"], parameters["seed"]),
        }


def _timed(detectors: Sequence[Detector], pages: DistinctPages) -> Result:
    sketch_us, lookup_us = {}, {}
    for detector in detectors:
        index = detector.index()
        sketching = looking = 0
        for first, content in pages.batches():
            began = time.thread_time_ns()
            features = detector.sketch(content)
            sketched = time.thread_time_ns()
            index.find_all(features, detector.candidates)
            index.put(features, 0, len(content) // PAGE_SIZE, first)
            sketching += sketched - began
            looking += time.thread_time_ns() - sketched
        sketch_us[detector.name] = sketching / 1000 / max(1, len(pages))
        lookup_us[detector.name] = looking / 1000 / max(1, len(pages))
    return {"sketch_us": sketch_us, "lookup_us": lookup_us}


def _timed_tries(pages: DistinctPages, sample: int, seed: int) -> float:
    index = PRODUCT.index()
    chosen = set(sample_numbers(len(pages), sample, seed))
    pairs = []
    for first, content in pages.batches():
        features = PRODUCT.sketch(content)
        for row in range(len(content) // PAGE_SIZE):
            if first + row in chosen:
                pairs += [(first + row, base) for base in index.find(features, row, 1)]
        index.put(features, 0, len(content) // PAGE_SIZE, first)
    context = Context()
    spent = 0
    for number, base in pairs:
        page, prefix = pages[number], pages[base]
        began = time.thread_time_ns()
        context.encode(Codec.ZSTD_PREFIX, page, prefix)
        spent += time.thread_time_ns() - began
    return spent / 1000 / max(1, len(pairs))


# ----------------------------------------------------------------------------------------- oracle

ORACLE_WORDS = (4, 1)
"""Of 8 bytes, in the windows that pages have in common or not."""

ORACLE_BEST = 8
"""Pages with most in common that are remembered, for each kind of windows."""

ORACLES: dict[str, Mapping[int, int]] = {
    "exact overlap of 32 bytes": {4: 1},
    "exact overlap of 8 bytes": {1: 1},
    "smallest of 16 patches": {4: ORACLE_BEST, 1: ORACLE_BEST},
}
"""Name -> for windows of so many words, how many of the best pages are tried."""


def oracle_pass(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Patch a sample of pages against those of all earlier pages that have most in common with it.

    Common are the distinct windows, at multiples of 8 bytes, that are in both pages, wherever they
    are. It is exact for that measure, and every earlier page may be a base; the page with most in
    common need not make the smallest patch. Parameters: `sample` and `seed` as for
    sample_numbers(). The result: a Tally for each of ORACLES.
    """
    with DistinctPages(images) as pages:
        patcher = Patcher(pages)
        chosen = sample_numbers(len(pages), parameters["sample"], parameters["seed"])
        content = b"".join([pages[number] for number in chosen])
        overlaps = {
            words: _kernels.Overlap(content, array("I", chosen), words, ORACLE_BEST)
            for words in ORACLE_WORDS
        }
        for first, batch in pages.batches():
            for overlap in overlaps.values():
                overlap.look(batch, first)
        best = {words: overlap.best() for words, overlap in overlaps.items()}
        tallies = {name: Tally() for name in ORACLES}
        for member, number in enumerate(chosen):
            page = pages[number]
            for name, wanted in ORACLES.items():
                candidates = {
                    base: None
                    for words, count in wanted.items()
                    for base, _common in best[words][member][:count]
                }
                patched = patcher.patched(page, number, candidates)
                tallies[name].count(list(candidates), patcher.alone[number], patched)
        return {name: asdict(tally) for name, tally in tallies.items()}


# ---------------------------------------------------------------------------------------- product


def product_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Import a corpus with the default recipe; as recipe_pass(), with `sketch_bytes`: what the
    file of the sketch table occupies."""
    result = recipe_pass(images, folder, {**parameters, "recipe": RECIPES["default"].to_dict()})
    occupied = (folder / "store" / SKETCH_FILE).stat().st_blocks * 512
    return {**result, "sketch_bytes": occupied}
