"""Recipes: what a store remembers of them, and that the router can work with each."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs._kernels import DEPTH_LIMIT, Batch
from difffs.codec import ROUTE_OF_CODEC, Codec, Route
from difffs.errors import UsageError
from difffs.recipe import DEFAULT_RECIPE, RECIPES, Recipe, recipe_named
from difffs.sketch import Sketch
from tests.pages import PAGE

ALL = list(RECIPES.values())
NAMES = list(RECIPES)


def test_the_promised_recipes_are_there() -> None:
    promised = {
        "default",
        "fast",
        "dense",
        "difference-engine",
        "identical-only",
        "patch-only",
        "compress-only",
        "bwt-mtf",
    }
    assert promised <= set(RECIPES)
    assert DEFAULT_RECIPE == "default"


def test_each_goes_by_its_name() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe_named(name) is recipe
        assert recipe.description


@pytest.mark.parametrize("name", ["", "Default", "nonesuch", "default "])
def test_an_unknown_name_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_named(name)
    assert repr(name) in str(caught.value)
    for known in RECIPES:
        assert known in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_earlier_recipes_said_is_passed_over() -> None:
    values = RECIPES["default"].to_dict()
    del values["single_vote_run"]
    assert Recipe.from_dict({**values, "single_vote_gain": 200}) == RECIPES["default"]
    with pytest.raises(TypeError):
        Recipe.from_dict({**values, "nonesuch": 1})


@pytest.mark.parametrize("recipe", ALL, ids=NAMES)
def test_a_store_remembers_it_as_json(recipe: Recipe) -> None:
    values = json.loads(json.dumps(recipe.to_dict()))
    again = Recipe.from_dict(values)
    assert again == recipe
    for field in fields(Recipe):
        assert type(getattr(again, field.name)) is type(getattr(recipe, field.name)), field.name


@given(
    share=st.booleans(),
    sketch=st.sampled_from(Sketch),
    candidates=st.integers(1, 2),
    patch_codec=st.sampled_from([Codec.NONE, *(codec for codec in Codec if codec.is_patch)]),
    patch_level=st.integers(-50, 19),
    patch_limit=st.integers(1, PAGE),
    compress_codec=st.sampled_from([Codec.NONE, Codec.ZSTD, Codec.LZ4, Codec.BWT_RANGE]),
)
def test_any_recipe_is_remembered(**values: object) -> None:
    recipe = replace(RECIPES["default"], **values)  # type: ignore[arg-type]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_what_an_older_store_does_not_name_has_its_default() -> None:
    values = RECIPES["default"].to_dict()
    for name in values.keys() - {"name", "description"}:
        assert (
            Recipe.from_dict({k: v for k, v in values.items() if k != name}) == RECIPES["default"]
        )


@pytest.mark.parametrize(
    "changes",
    [{"of-the-future": 1}, {"sketch": 99}, {"patch_codec": -1}, {"compress_codec": "zstd"}],
    ids=str,
)
def test_what_is_no_recipe_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Recipe.from_dict({**RECIPES["default"].to_dict(), **changes})
    with pytest.raises(TypeError):
        Recipe.from_dict({})


@pytest.mark.parametrize("recipe", ALL, ids=NAMES)
def test_the_router_can_work_with_it(recipe: Recipe) -> None:
    Batch(recipe)
    assert recipe.candidates in (1, 2)
    assert 0 <= recipe.maximum_depth <= DEPTH_LIMIT
    assert 1 <= recipe.patch_limit <= PAGE
    assert 0 <= recipe.patch_ratio <= 256
    assert recipe.patch_codec is Codec.NONE or recipe.patch_codec.is_patch
    compresses = recipe.compress_codec
    assert compresses is Codec.NONE or ROUTE_OF_CODEC[compresses] is Route.COMPRESS
    # Without a sketch no base is ever found, without patches no sketch is wanted.
    assert (recipe.sketch is Sketch.NONE) == (recipe.patch_codec is Codec.NONE)


def test_the_transforming_recipe_transforms_everywhere() -> None:
    recipe = RECIPES["bwt-mtf"]
    assert recipe.sketch is Sketch.TRANSFORMED_BLOCKS
    assert recipe.patch_codec is Codec.BWT_PREFIX
    assert recipe.compress_codec is Codec.BWT_RANGE
    assert recipe.candidates == RECIPES["difference-engine"].candidates


def test_the_papers_recipe_is_the_papers() -> None:
    recipe = RECIPES["difference-engine"]
    assert recipe.sketch is Sketch.FIXED_BLOCKS
    assert recipe.patch_codec is Codec.VCDIFF
    assert recipe.patch_limit == 2048
    assert recipe.patch_ratio == 0
    assert recipe.maximum_depth == 1
