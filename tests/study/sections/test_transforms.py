"""Section 4 on the small corpora."""

from dataclasses import replace

import pytest

from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study.context import Context
from difffs.study.excerpt import excerpt_pass
from difffs.study.result import Section
from difffs.study.sections import transforms
from tests.study.sections.section_checks import check_corpora, check_plots, check_words, numbers

CORPORA = ("alike", "different")


@pytest.fixture
def section(context: Context) -> Section:
    return transforms.run(context)


def test_words_plots_and_cells(section: Section) -> None:
    check_words(section, findings=len(CORPORA))
    assert section.conclusion.startswith("Burrows-Wheeler and move-to-front ")
    for corpus, finding in zip(CORPORA, section.findings, strict=True):
        assert finding.startswith(f"On {corpus}, a transformed page takes ")
    check_plots(section)
    check_corpora(section, CORPORA)


def test_sizes_agree_with_factors_and_zstd_is_the_measure(section: Section) -> None:
    table = section.table("transform_sizes")
    for mean, factor in zip(numbers(table, "mean"), numbers(table, "factor"), strict=True):
        assert mean * factor == pytest.approx(PAGE_SIZE)
    assert set(numbers(table, "less", codec="zstd 1")) == {0}
    for corpus in CORPORA:
        (alone,) = numbers(table, "mean", corpus=corpus, codec="zstd 1", unit="page")
        (ranked,) = numbers(
            table, "mean", corpus=corpus, codec=transforms._RANGE_CODER, unit="page"
        )
        (less,) = numbers(table, "less", corpus=corpus, codec=transforms._RANGE_CODER, unit="page")
        assert less == pytest.approx(1 - ranked / alone)


def test_times_are_the_sums_of_steps(section: Section) -> None:
    sizes, steps = section.table("transform_sizes"), section.table("transform_steps")
    where = {"corpus": "alike", "unit": "16 pages"}
    for key, direction in (("encode_us", "forward_us"), ("decode_us", "backward_us")):
        (whole,) = numbers(sizes, key, **where, codec=transforms._RANGE_CODER)
        parts = [
            *numbers(steps, direction, **where, step="transform"),
            *numbers(steps, direction, **where, step="range coder of ranks"),
        ]
        assert whole == pytest.approx(sum(parts))


def test_shares_are_shares(section: Section) -> None:
    for name, keys in (
        ("transform_keys", ("found", "both", "telling")),
        ("transform_patches", ("taken",)),
        ("transform_pipelines", ("patched",)),
    ):
        for key in keys:
            assert all(0 <= share <= 1 for share in numbers(section.table(name), key))


def test_pipelines_differ_in_what_they_say(context: Context, section: Section) -> None:
    """The table's words, and the recipes that the figures come from."""
    by_name = {each.name: each for each in transforms._pipelines()}
    proposed = by_name["all transformed, range coder"]
    assert replace(proposed.recipe, name="", description="") == replace(
        RECIPES["bwt-mtf"], name="", description=""
    )
    assert by_name["default"].recipe == RECIPES["default"]
    assert by_name["default, range coder"].recipe.compress_codec is Codec.BWT_RANGE
    described = {(each.keys, each.patches, each.rest) for each in by_name.values()}
    assert len(described) == len(by_name)
    assert by_name["all plain"].rest == "zstd 1"
    assert by_name["default"].rest == "zstd 1 with dictionary"
    assert {each.keys for each in by_name.values() if "default" in each.name} == {"min-hash, plain"}

    for corpus in context.corpora:
        pages = numbers(section.table("transform_pipelines"), "pages", corpus=corpus.name)
        assert len(set(pages)) == 1
        assert pages[0] < corpus.pages


def test_a_pipelines_factor_is_that_of_an_import(context: Context, section: Section) -> None:
    corpus = context.corpora[0]
    (recipe,) = (e.recipe for e in transforms._pipelines() if e.name == "plain keys and patches")
    parameters = {
        "recipe": recipe.to_dict(),
        "pages": transforms._EXCERPT_OF_SAMPLE * context.sample,
        "seed": context.seed,
    }
    result = excerpt_pass(corpus.images, context.scratch, parameters)
    table = section.table("transform_pipelines")
    (factor,) = numbers(table, "factor", corpus=corpus.name, pipeline="plain keys and patches")
    assert factor == result["factor"]
    (stored,) = numbers(table, "stored", corpus=corpus.name, pipeline="plain keys and patches")
    assert stored == result["bytes"]["stored"]
