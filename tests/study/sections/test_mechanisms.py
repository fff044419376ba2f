"""Section 1 on the corpus `alike`."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from difffs.recipe import RECIPES
from difffs.study import variants
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.importing import import_pass
from difffs.study.report.plots import draw
from difffs.study.result import Cell, Section, Table
from difffs.study.sections import mechanisms


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


def numbers(table: Table, key: str) -> list[float]:
    found = [row[key] for row in table.rows]
    assert all(isinstance(value, int | float) for value in found)
    return found  # type: ignore[return-value]


def test_the_conclusion_has_only_figures_of_its_tables(section: Section) -> None:
    assert section.unsupported_numbers() == []
    verdict = section.table("verdict")
    assert f"compression alone reaches a factor of {verdict.text('compress')}" in section.conclusion
    assert "together" in section.conclusion


def test_every_plot_is_drawn(section: Section) -> None:
    assert len(section.plots) == 3
    for plot in section.plots:
        assert draw(plot, section.table(plot.table)).startswith("<svg")


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


@pytest.mark.parametrize(
    ("compress", "identical", "everything", "judgement"),
    [
        (1000, 900, 800, "a significant saving over compression alone"),
        (1000, 990, 960, "a small saving over compression alone"),
        (1000, 1100, 1001, "no saving over compression alone"),
    ],
)
def test_the_judgement_follows_the_figures(
    compress: int, identical: int, everything: int, judgement: str
) -> None:
    stored = {
        "compress: zstd 1, dictionary": compress,
        "identical + compress: zstd 1, dictionary": identical,
        "default": everything,
        "difference-engine": 1000,
    }
    results = {
        name: {"bytes": {"logical": 4000, "stored": size}, "factor": 4000 / size}
        for name, size in stored.items()
    }
    verdict = mechanisms._verdict_table({"some": results})
    told = mechanisms._conclusion([verdict, verdict])
    assert judgement in told
    section = Section(1, "mechanisms", "", [verdict], [], told)
    assert section.unsupported_numbers() == []
