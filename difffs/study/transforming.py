"""Passes over transformed pages: sizes and times of blocks, patches of real pairs, keys.

Transformed means MTF(BWT(page)), as the recipe ``bwt-mtf`` has it.
"""

from __future__ import annotations

import random
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy

from difffs._kernels import Context, digest, same_word, sketch
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.sketch import Sketch
from difffs.study import _kernels
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.hash_ranges import Flags, first_occurrences
from difffs.study.importing import batches
from difffs.study.page_sample import distinct_pages, read_pages
from difffs.study.pairs import Pair, sample_pairs
from difffs.study.stored_array import Array, ArrayLike, opened

BLOCK_PASS_VERSION = 1
PAIR_PASS_VERSION = 1
KEY_PASS_VERSION = 2

GROUP_PAGES = 16
ROW_BYTES = 2
"""What a transformed block needs beside its ranks."""

_ROUNDS = 3
"""Of each timed step; the fastest counts."""

_SLOW_LEVEL = 10
"""zstd from this level on is timed once."""

_Made = TypeVar("_Made")


# ---------------------------------------------------------------------------------- sizes, times


def sample_groups(images: Sequence[Image], pages: int, seed: int) -> bytes:
    """Return about `pages` pages: groups of 16 that would lie side by side in a store.

    Drawn at random from all groups of 16 successive pages, after leaving out pages of one repeated
    word and all but the first of equal ones.
    """
    kept = distinct_pages(images)
    groups = len(kept) // GROUP_PAGES
    chosen = sorted(random.Random(seed).sample(range(groups), min(groups, pages // GROUP_PAGES)))
    wanted = [kept[group * GROUP_PAGES + i] for group in chosen for i in range(GROUP_PAGES)]
    return read_pages(images, wanted)


def block_pass(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Encode sampled pages one by one and in groups of 16, plain and transformed.

    Parameters: `pages` and `seed` as for sample_groups(). The result: `pages`, and for `page` and
    `group` the `bytes` by codec and the `steps`: [forward, backward] microseconds a page.
    """
    content = sample_groups(images, parameters["pages"], parameters["seed"])
    return {
        "pages": len(content) // PAGE_SIZE,
        "page": _blocks(content, PAGE_SIZE),
        "group": _blocks(content, GROUP_PAGES * PAGE_SIZE),
    }


PLAIN_LEVELS = {"zstd 1": 1, "zstd 3": 3, "zstd 19": 19}

STEPS = {
    **{name: [name] for name in PLAIN_LEVELS},
    "BWT + MTF, zstd 1": ["transform", "zstd 1 of ranks"],
    "BWT + MTF, range coder": ["transform", "range coder of ranks"],
}
"""The codecs that block_pass() tries, and the steps of each in the direction of encoding."""

Coder = tuple[Callable[[bytes], tuple[bytes, "array[int]"]], Callable[[bytes, "array[int]"], bytes]]
"""From blocks to encoded ones and a number for each, and back."""


def _blocks(content: bytes, block_bytes: int) -> Result:
    pages = max(1, len(content) // PAGE_SIZE)
    steps: dict[str, list[float]] = {}

    def step(name: str, original: bytes, coder: Coder, rounds: int) -> tuple[bytes, array[int]]:
        encode, decode = coder
        (made, numbers), forward = _fastest(lambda: encode(original), rounds)
        again, backward = _fastest(lambda: decode(made, numbers), rounds)
        assert again == original, name
        steps[name] = [forward * 1e6 / pages, backward * 1e6 / pages]
        return made, numbers

    def size(lengths: array[int], extra: int = 0) -> int:
        # what does not get shorter is kept as it is
        return sum(min(length + extra, block_bytes) for length in lengths)

    sizes = {}
    for name, level in PLAIN_LEVELS.items():
        rounds = _ROUNDS if level < _SLOW_LEVEL else 1
        _frames, lengths = step(name, content, _zstd(block_bytes, level), rounds)
        sizes[name] = size(lengths)
    transform: Coder = (
        lambda blocks: _kernels.transform(blocks, block_bytes),
        lambda ranks, rows: _kernels.inverse(ranks, rows, block_bytes),
    )
    ranks, _rows = step("transform", content, transform, _ROUNDS)
    _frames, lengths = step("zstd 1 of ranks", ranks, _zstd(block_bytes, 1), _ROUNDS)
    sizes["BWT + MTF, zstd 1"] = size(lengths, ROW_BYTES)
    range_coder: Coder = (
        lambda blocks: _kernels.range_encode(blocks, block_bytes),
        lambda codes, lengths: _kernels.range_decode(codes, lengths, block_bytes),
    )
    _codes, lengths = step("range coder of ranks", ranks, range_coder, _ROUNDS)
    sizes["BWT + MTF, range coder"] = size(lengths, ROW_BYTES)
    return {"bytes": sizes, "steps": steps}


def _zstd(block_bytes: int, level: int) -> Coder:
    return (
        lambda blocks: _kernels.zstd_encode(blocks, block_bytes, level),
        lambda frames, lengths: _kernels.zstd_decode(frames, lengths, block_bytes),
    )


def _fastest(function: Callable[[], _Made], rounds: int) -> tuple[_Made, float]:
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        made = function()
        best = min(best, time.perf_counter() - began)
    return made, best


# --------------------------------------------------------------------------------------- patches

_BASE_ID_BYTES = 4

PAIR_CODECS = {
    "plain pages": (Codec.ZSTD_PREFIX, Codec.ZSTD),
    "transformed pages": (Codec.BWT_PREFIX, Codec.BWT_RANGE),
}
"""What a pair's page is encoded with: as a patch, and alone."""


def pair_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Patch real pairs, plain and transformed, at level 1.

    Parameters: `pairs` and `seed` as for sample_pairs(). The result: `pairs` sampled, `found` in
    all, and for each of PAIR_CODECS the bytes in all of patches (`patch`), of the pages encoded
    alone (`alone`), of what the router would keep (`kept`), in how many pairs it would keep the
    patch (`taken`), and `encode_us` and `decode_us` of a patch.
    """
    pairs, found = sample_pairs(images, folder, parameters["pairs"], parameters["seed"])
    return {
        "pairs": len(pairs),
        "found": found,
        **{kind: _pairs(pairs, *codecs) for kind, codecs in PAIR_CODECS.items()},
    }


def _pairs(pairs: Sequence[Pair], patch_codec: Codec, codec: Codec) -> Result:
    context = Context()
    count = max(1, len(pairs))
    began = time.perf_counter()
    patches = [context.encode(patch_codec, pair.page, pair.base) for pair in pairs]
    encoded = time.perf_counter()
    for pair, patch in zip(pairs, patches, strict=True):
        if patch is not None:
            assert context.decode(patch_codec, patch, pair.base) == pair.page
    decoded = time.perf_counter()
    ratio = RECIPES["default"].patch_ratio
    result = {"patch": 0, "alone": 0, "kept": 0, "taken": 0}
    for pair, patch in zip(pairs, patches, strict=True):
        alone = len(context.encode(codec, pair.page) or pair.page)
        patched = PAGE_SIZE if patch is None else _BASE_ID_BYTES + len(patch)
        taken = patched * 256 < alone * ratio
        result["patch"] += min(patched, PAGE_SIZE)
        result["alone"] += alone
        result["kept"] += patched if taken else alone
        result["taken"] += taken
    return {
        **result,
        "encode_us": (encoded - began) * 1e6 / count,
        "decode_us": (decoded - encoded) * 1e6 / count,
    }


# ------------------------------------------------------------------------------------------ keys

KEY_KINDS = ("plain pages", "transformed pages")


def key_pass(images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """The two keys of each page of one image that is not one repeated word.

    The result: arrays in the order of pages: `digests` (uint64), and for each of KEY_KINDS two
    uint32 a page.
    """
    (image,) = images
    digests = array("Q")
    keys = {kind: array("I") for kind in KEY_KINDS}
    for _first, content in batches(image):
        pages = [content[i : i + PAGE_SIZE] for i in range(0, len(content), PAGE_SIZE)]
        pages = [page for page in pages if same_word(page) is None]
        transformed, _rows = _kernels.transform(b"".join(pages), PAGE_SIZE)
        for number, page in enumerate(pages):
            ranks = memoryview(transformed)[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
            digests.append(digest(page))
            for kind, looked_at in zip(KEY_KINDS, (page, ranks), strict=True):
                keys[kind].extend(sketch(Sketch.FIXED_BLOCKS, looked_at))
    return {
        "digests": numpy.array(digests, dtype="<u8"),
        **{kind: numpy.array(keys[kind], dtype="<u4").reshape(-1, 2) for kind in KEY_KINDS},
    }


@dataclass(frozen=True, slots=True)
class KeyCoverage:
    """For how many pages the two keys lead to an earlier page."""

    pages: int
    """Distinct pages that are not one repeated word."""
    found: int
    """Pages that have a key in common with an earlier one."""
    both: int
    """Pages both of whose keys earlier pages have."""
    telling: int
    """Pages that have a key in common that is not of a block of one repeated byte."""


def merge_keys(results: Sequence[Result]) -> dict[str, KeyCoverage]:
    """Merge the results of images in their order, for each of KEY_KINDS."""
    distinct = first_occurrences([result["digests"] for result in results])
    constant = numpy.array(
        [sketch(Sketch.FIXED_BLOCKS, bytes([value]) * PAGE_SIZE) for value in range(256)]
    )
    return {
        kind: _coverage([result[kind] for result in results], distinct, constant)
        for kind in KEY_KINDS
    }


def _coverage(every: Sequence[ArrayLike], distinct: Flags, constant: Array) -> KeyCoverage:
    earlier = [distinct & ~first_occurrences(every, which, distinct) for which in range(2)]
    telling = start = 0
    for array_of_image in every:
        keys = opened(array_of_image)
        told = numpy.zeros(len(keys), dtype=bool)
        for which in range(2):
            common = earlier[which][start : start + len(keys)]
            told |= common & ~numpy.isin(keys[:, which], constant[:, which])
        telling += int(numpy.count_nonzero(told))
        start += len(keys)
    return KeyCoverage(
        pages=int(numpy.count_nonzero(distinct)),
        found=int(numpy.count_nonzero(earlier[0] | earlier[1])),
        both=int(numpy.count_nonzero(earlier[0] & earlier[1])),
        telling=telling,
    )
