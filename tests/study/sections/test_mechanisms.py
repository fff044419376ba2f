"""Section 1 on the corpus `alike`."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from difffs.recipe import RECIPES
from difffs.study import variants
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.importing import import_pass
from difffs.study.result import Cell, Section, Table
from difffs.study.sections import mechanisms
from tests.study.sections.section_checks import check_corpora, check_plots, check_words, numbers


@pytest.fixture
def alike(context: Context) -> Context:
    return replace(context, corpora=context.corpora[:1])


@pytest.fixture
def section(alike: Context) -> Section:
    return mechanisms.run(alike)


def number(table: Table, key: str, **where: Cell) -> float:
    value = table.value(key, corpus="alike", **where)
    assert isinstance(value, int | float)
    return value


def test_words_plots_and_cells(section: Section) -> None:
    check_words(section, findings=1)
    verdict = section.table("verdict")
    assert (
        f"Compression alone reaches a factor of {verdict.text('compress')}," in section.conclusion
    )
    assert section.findings[0].startswith("On alike, compression alone reaches a factor of")
    assert len(section.plots) == 3
    check_plots(section)
    check_corpora(section, ["alike"])


def test_stored_is_the_sum_of_its_parts(section: Section) -> None:
    table = section.table("mechanisms")
    names = [row["variant"] for row in table.rows]
    assert len(set(names)) == len(names) == len(mechanisms._variants())
    for row in table.rows:
        parts = [row["payload"], row["metadata"], row["slack"]]
        assert row["stored"] == sum(part for part in parts if isinstance(part, int))
    for factor, payloads in zip(
        numbers(table, "factor"), numbers(table, "payload_factor"), strict=True
    ):
        assert 1 < factor < payloads


def test_mechanisms_add_up_on_clones(section: Section) -> None:
    """Each is better with another one beside it: a clone's pages are the same or similar."""
    table = section.table("mechanisms")

    def factor(variant: str) -> float:
        return number(table, "factor", variant=variant)

    assert factor("identical") < factor("identical + patch") < factor("all: default")
    for name in variants.COMPRESSORS:
        assert factor(f"compress: {name}") < factor(f"identical + compress: {name}")
    assert factor("identical + compress: zstd 1, dictionary") < factor("all: default")


def test_figures_are_those_of_imports(section: Section, alike: Context) -> None:
    images = alike.corpora[0].images
    named = [RECIPES["default"], variants.LEFT_OUT["patch"]]
    results: Sequence[Result] = alike.results([import_pass(images, recipe) for recipe in named])
    default, without = (result["bytes"]["stored"] for result in results)
    assert number(section.table("mechanisms"), "stored", variant="all: default") == default
    left_out = section.table("left_out")
    assert number(left_out, "more", left_out="patch") == without - default
    assert number(left_out, "more_share", left_out="patch") == pytest.approx(without / default - 1)


def test_the_verdict_is_made_of_stored_bytes(section: Section) -> None:
    verdict, table = section.table("verdict"), section.table("mechanisms")
    compress = number(table, "stored", variant="compress: zstd 1, dictionary")
    everything = number(table, "stored", variant="all: default")
    assert number(verdict, "by_both") == pytest.approx(1 - everything / compress)
    sharing, patching = number(verdict, "by_sharing"), number(verdict, "by_patching")
    assert (1 - sharing) * (1 - patching) == pytest.approx(1 - number(verdict, "by_both"))


def test_contributions_end_at_what_is_stored(section: Section, alike: Context) -> None:
    table = section.table("contributions")
    pages = [row["pages"] for row in table.rows if row["pages"] is not None]
    assert sum(page for page in pages if isinstance(page, int)) == alike.corpora[0].pages
    saved = sum(numbers(table, "saved"))
    everything = number(section.table("mechanisms"), "stored", variant="all: default")
    assert saved == alike.corpora[0].bytes - everything


def test_shares_of_same_pages_are_the_whole(section: Section) -> None:
    (row,) = section.table("sharing").rows
    shares = [row[key] for key in ("zero", "same", "within", "across", "distinct")]
    assert sum(share for share in shares if isinstance(share, float)) == pytest.approx(1)
    assert number(section.table("sharing"), "across") > number(section.table("sharing"), "within")


def verdict_of(stored: dict[str, dict[str, int]]) -> tuple[Table, Table]:
    """Verdict and what is lost by leaving out, of bytes stored by corpus and recipe."""
    results = {
        corpus: {
            name: {"bytes": {"logical": 4000, "stored": size}, "factor": 4000 / size}
            for name, size in of_corpus.items()
        }
        for corpus, of_corpus in stored.items()
    }
    return mechanisms._verdict_table(results), mechanisms._left_out_table(results)


def stored_bytes(compress: int, identical: int, everything: int, least: str) -> dict[str, int]:
    """What is left out costs 10 bytes, `least` 500."""
    without = {variants.LEFT_OUT[name].name: everything + 10 for name in variants.LEFT_OUT}
    return {
        "compress: zstd 1, dictionary": compress,
        "identical + compress: zstd 1, dictionary": identical,
        "default": everything,
        "difference-engine": 1000,
        **without,
        variants.LEFT_OUT[least].name: everything + 500,
    }


SIGNIFICANT = stored_bytes(1000, 900, 800, "compress")
SMALL = stored_bytes(1000, 990, 960, "compress")
NONE = stored_bytes(1000, 1100, 1001, "patch")


@pytest.mark.parametrize(
    ("stored", "judgement"),
    [
        (SIGNIFICANT, "Over compression alone, deduplication gives a significant saving: sharing"),
        (SMALL, "deduplication gives a small saving: sharing identical pages takes 1.0 % off"),
        (NONE, "takes -10.0 % off the stored bytes, patching similar pages then 9.0 % (negative"),
    ],
)
def test_the_judgement_follows_the_figures(stored: dict[str, int], judgement: str) -> None:
    tables = verdict_of({"some": stored})
    told = mechanisms._conclusion(*tables)
    assert judgement in told
    assert Section(1, "mechanisms", "", tables, [], told).unsupported_numbers() == []


def test_corpora_that_disagree_are_named() -> None:
    tables = verdict_of({"one": SIGNIFICANT, "two": SMALL, "three": NONE})
    told = mechanisms._conclusion(*tables)
    assert "a significant saving on one, a small saving on two, and no saving on three" in told
    assert "both together -0.1 % (three) to 20.0 % (one)." in told
    assert "is compression on one and two, and patching on three: without it" in told
    assert Section(1, "mechanisms", "", tables, [], told).unsupported_numbers() == []
