"""Recipes beyond the named ones: each is what its name says, and nothing else differs."""

from dataclasses import fields, replace

import pytest

from difffs.codec import Codec
from difffs.recipe import RECIPES, Recipe
from difffs.sketch import Sketch
from difffs.study import variants

EVERY = [
    *(
        make(name)
        for name in variants.COMPRESSORS
        for make in (variants.compress_only, variants.identical_and_compress, variants.all_with)
    ),
    *variants.LEFT_OUT.values(),
]


def differences(one: Recipe, other: Recipe) -> set[str]:
    """The parameters in which two recipes differ, besides their names."""
    named = {"name", "description"}
    return {
        each.name
        for each in fields(Recipe)
        if each.name not in named and getattr(one, each.name) != getattr(other, each.name)
    }


def test_names_tell_recipes_apart() -> None:
    names = [recipe.name for recipe in EVERY]
    assert len(set(names)) == len(names)
    assert not set(names) & set(RECIPES)


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.name)
def test_each_is_kept_in_a_store_as_it_is(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", variants.COMPRESSORS)
def test_mechanisms_are_on_or_off(name: str) -> None:
    codec, level, dictionary = variants.COMPRESSORS[name]
    alone, shared, everything = (
        make(name)
        for make in (variants.compress_only, variants.identical_and_compress, variants.all_with)
    )
    assert [recipe.share for recipe in (alone, shared, everything)] == [False, True, True]
    for recipe in (alone, shared):
        assert (recipe.sketch, recipe.patch_codec) == (Sketch.NONE, Codec.NONE)
    compression = {"compress_codec", "compress_level", "dictionary_bytes"}
    assert differences(everything, RECIPES["default"]) <= compression
    for recipe in (alone, shared, everything):
        found = (recipe.compress_codec, recipe.compress_level, recipe.dictionary_bytes)
        assert found == (codec, level, dictionary)


def test_the_compressor_of_default_is_among_them() -> None:
    default = RECIPES["default"]
    assert differences(variants.all_with("zstd 1, dictionary"), default) == set()
    unshared = replace(default, share=False)
    assert differences(variants.compress_only("zstd 1, dictionary"), unshared) == {
        "sketch",
        "patch_codec",
    }


@pytest.mark.parametrize(
    ("left_out", "changed"),
    [
        ("identical", {"share"}),
        ("patch", {"sketch", "patch_codec"}),
        ("compress", {"compress_codec", "single_vote_run"}),
        ("dictionary", {"dictionary_bytes"}),
    ],
)
def test_one_mechanism_is_left_out(left_out: str, changed: set[str]) -> None:
    assert differences(variants.LEFT_OUT[left_out], RECIPES["default"]) == changed


def test_nothing_else_is_left_out() -> None:
    assert set(variants.LEFT_OUT) == {"identical", "patch", "compress", "dictionary"}


def test_a_patcher_is_put_in_and_nothing_else() -> None:
    for recipe in (RECIPES["default"], RECIPES["patch-only"]):
        found = {}
        for name in variants.PATCHERS:
            made = variants.with_patcher(recipe, name)
            assert differences(made, recipe) <= {"patch_codec", "patch_level"}
            found[name] = (made.patch_codec, made.patch_level)
        assert found == variants.PATCHERS
        assert variants.with_patcher(recipe, "zstd 1") is recipe, "the same pass as without"
