"""Recipes that the study compares beyond the named ones: each mechanism alone, or left out."""

from __future__ import annotations

from dataclasses import replace

from difffs.codec import Codec
from difffs.recipe import RECIPES, Recipe
from difffs.sketch import Sketch

DEFAULT = RECIPES["default"]

COMPRESSORS: dict[str, tuple[Codec, int, int]] = {
    "lz4": (Codec.LZ4, 1, 0),
    "zstd -1": (Codec.ZSTD, -1, 0),
    "zstd 1": (Codec.ZSTD, 1, 0),
    "zstd 1, dictionary": (Codec.ZSTD, 1, DEFAULT.dictionary_bytes),
    "zstd 3": (Codec.ZSTD, 3, 0),
    "zstd 9": (Codec.ZSTD, 9, 0),
}
"""Name -> (codec, level, bytes of trained dictionary)."""

PATCHERS: dict[str, tuple[Codec, int]] = {
    "zstd -1": (Codec.ZSTD_PREFIX, -1),
    "zstd 1": (Codec.ZSTD_PREFIX, 1),
    "zstd 3": (Codec.ZSTD_PREFIX, 3),
    "zstd 9": (Codec.ZSTD_PREFIX, 9),
    "lz4": (Codec.LZ4_PREFIX, 1),
    "VCDIFF": (Codec.VCDIFF, 1),
    "page bsdiff": (Codec.PAGE_BSDIFF, 1),
    "XBZRLE": (Codec.XBZRLE, 1),
}
"""Name -> (codec, level). zstd 19 would take a millisecond a page."""


def without_patches(recipe: Recipe) -> Recipe:
    """Return the recipe with nothing patched, and so no sketches kept."""
    return replace(recipe, sketch=Sketch.NONE, patch_codec=Codec.NONE)


def with_compressor(recipe: Recipe, compressor: str) -> Recipe:
    """Return the recipe with another of COMPRESSORS."""
    codec, level, dictionary = COMPRESSORS[compressor]
    return replace(recipe, compress_codec=codec, compress_level=level, dictionary_bytes=dictionary)


def compress_only(compressor: str) -> Recipe:
    """Every page compressed, nothing shared or patched."""
    recipe = with_compressor(RECIPES["compress-only"], compressor)
    return replace(recipe, name=f"compress: {compressor}")


def identical_and_compress(compressor: str) -> Recipe:
    """Identical pages shared, the rest compressed."""
    recipe = with_compressor(without_patches(DEFAULT), compressor)
    return replace(recipe, name=f"identical + compress: {compressor}")


def all_with(compressor: str) -> Recipe:
    """All mechanisms of `default`, with another compressor."""
    return replace(with_compressor(DEFAULT, compressor), name=f"all: {compressor}")


def with_patcher(recipe: Recipe, patcher: str) -> Recipe:
    """Return the recipe with another of PATCHERS; the recipe itself when that is its own."""
    codec, level = PATCHERS[patcher]
    if (codec, level) == (recipe.patch_codec, recipe.patch_level):
        return recipe
    return replace(recipe, name=f"{recipe.name}: {patcher}", patch_codec=codec, patch_level=level)


LEFT_OUT: dict[str, Recipe] = {
    "identical": replace(DEFAULT, name="all without identical", share=False),
    "patch": replace(without_patches(DEFAULT), name="all without patch"),
    # The run that makes a base worth a try is weighed against compressing the page.
    "compress": replace(
        DEFAULT, name="all without compress", compress_codec=Codec.NONE, single_vote_run=0
    ),
    "dictionary": replace(DEFAULT, name="all without dictionary", dictionary_bytes=0),
}
"""What is left out of `default` -> the recipe that remains."""
