"""Section 3 on the small corpora."""

from dataclasses import replace
from pathlib import Path

import pytest

from difffs.page import PAGE_SIZE
from difffs.study import changes, differences
from difffs.study.change_tables import COMPARED, REAL_KINDS
from difffs.study.changes import COLUMNS, SIMILARITIES, WITHOUT_BASE, Kind
from difffs.study.context import Context
from difffs.study.corpus import Corpus, Image
from difffs.study.difference_tables import ALL
from difffs.study.differences import PARTS, Place, Word
from difffs.study.patchers import PATCHERS
from difffs.study.result import Cell, Section
from difffs.study.sections import patchers, positions
from tests.study.sections.section_checks import check_corpora, check_plots, check_words

CORPORA = ("alike", "different")


@pytest.fixture
def section(context: Context) -> Section:
    return positions.run(context)


def test_words_plots_and_cells(section: Section) -> None:
    check_words(section, findings=len(CORPORA))
    assert section.conclusion.startswith("How changes are spread over a page matters ")
    for corpus, finding in zip(CORPORA, section.findings, strict=True):
        assert finding.startswith(f"On {corpus}, ")
    check_plots(section)
    check_corpora(section, CORPORA)


def number(section: Section, table: str, key: str, **where: Cell) -> float:
    value = section.table(table).value(key, **where)
    assert isinstance(value, int | float)
    return value


def test_every_kind_similarity_and_patcher_has_a_cell(context: Context, section: Section) -> None:
    cells = section.table("position_cells")
    assert len(cells.rows) == len(CORPORA) * (len(Kind) + 1) * len(SIMILARITIES) * len(COLUMNS)
    results = context.each_corpus(
        "changes",
        changes.CHANGE_PASS_VERSION,
        changes.change_pass,
        timed=True,
        pages=context.sample // positions._CHANGED_OF_SAMPLE,
        seed=context.seed,
    )
    for corpus, result in results.items():
        for cell in result["cells"]:
            shown = number(
                section,
                "position_cells",
                "bytes",
                corpus=corpus,
                kind=cell["kind"],
                patcher=cell["patcher"],
                similarity=f"{cell['similarity'] * 100:.0f} %",
            )
            assert shown * result["pages"] == pytest.approx(cell["bytes"])


def test_ratios_are_those_of_the_columns(section: Section) -> None:
    for row in section.table("position_kinds").rows:
        sizes = {kind.value: row[kind.value] for kind in REAL_KINDS}
        values = [size for size in sizes.values() if isinstance(size, int | float)]
        assert sizes[str(row["least"])] == min(values)
        assert sizes[str(row["most"])] == max(values)
        assert row["ratio"] == max(values) / min(values)
        pieces = [v for kind in ("end", "start", "one run") if isinstance(v := row[kind], float)]
        assert row["ratio_of_pieces"] == max(pieces) / min(pieces)
        where = {"corpus": row["corpus"], "patcher": row["patcher"]}
        assert number(section, "position_similarities", COMPARED, **where) == pytest.approx(
            sum(values) / len(values)
        )


def test_xbzrle_and_xor_do_not_follow_a_shift(section: Section) -> None:
    """What stands at another offset is new to them, and to no other patcher."""
    for corpus in CORPORA:
        for patcher in PATCHERS:
            shift, run = (
                number(section, "position_kinds", kind.value, corpus=corpus, patcher=patcher)
                for kind in (Kind.SHIFT, Kind.RUN)
            )
            assert (shift > 2 * run) is patcher.startswith(("XBZRLE", "XOR")), (corpus, patcher)


def test_shares_add_up(section: Section) -> None:
    def total(table: str, key: str, corpus: str, *left_out: str) -> float:
        first_columns = [column.key for column in section.table(table).columns][1]
        return sum(
            value
            for row in section.table(table).rows
            if row["corpus"] == corpus and row[first_columns] not in left_out
            if isinstance(value := row[key], int | float)
        )

    for corpus in CORPORA:
        assert total("position_pairs", "share", corpus, "similar", ALL) == pytest.approx(1)
        for key in ("share", "similar"):
            assert total("position_places", key, corpus) == pytest.approx(1)
        for key in ("share", "bytes"):
            assert total("position_runs", key, corpus, "up to 8", ALL) == pytest.approx(1)
        for table in ("position_parts", "position_words"):
            for key in ("similar", "all"):
                assert total(table, key, corpus) == pytest.approx(1)
        assert len([r for r in section.table("position_parts").rows if r["corpus"] == corpus]) == (
            PARTS
        )


def test_places_and_patches_are_those_of_the_pass(context: Context, section: Section) -> None:
    results = context.each_corpus(
        "differences",
        differences.DIFFERENCE_PASS_VERSION,
        differences.difference_pass,
        pairs=context.sample,
        seed=context.seed,
    )
    for corpus, result in results.items():
        total = differences.add_up(result["cells"])
        assert (
            number(section, "position_pairs", "pairs", corpus=corpus, equal=ALL) == total["pairs"]
        )
        for place in Place:
            cells = [cell for cell in result["cells"] if cell["place"] == place]
            pairs = sum(cell["pairs"] for cell in cells)
            where: dict[str, Cell] = {"corpus": corpus, "place": place.value}
            assert number(section, "position_places", "pairs", **where) == pairs
            for patcher in COLUMNS if pairs else ():
                mean = sum(cell["patches"][patcher] for cell in cells) / pairs
                assert number(section, "position_patches", patcher, **where) == mean
                assert (
                    number(section, "position_patch_cells", "bytes", patcher=patcher, **where)
                    == mean
                )


def test_pairs_and_patches_are_those_of_the_second_question(
    context: Context, section: Section
) -> None:
    for corpus, result in patchers.pair_results(context).items():
        lengths = {name: each["lengths"] for name, each in result["patchers"].items()}
        for name, of_pairs in {**lengths, WITHOUT_BASE: result["alone"]}.items():
            mean = sum(of_pairs) / result["pairs"]
            assert number(section, "position_patches", name, corpus=corpus, place=ALL) == mean


def test_words_are_named(section: Section) -> None:
    named = [row["word"] for row in section.table("position_words").rows]
    assert named == [word.value for word in Word] * len(CORPORA)


def test_a_corpus_without_pages_or_pairs(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(4 * PAGE_SIZE))
    alone = replace(context, corpora=[Corpus("zeros", (Image.of(path),))])
    section = positions.run(alone)
    check_words(section, findings=1)
    assert section.conclusion.startswith("These images have neither pages that can be changed")
    assert section.findings == ["On zeros there was nothing to look at."]
