"""Section 5 on the small corpora."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from difffs.page import PAGE_SIZE
from difffs.study import similarity as passes
from difffs.study.context import Context
from difffs.study.corpus import Corpus, Image
from difffs.study.detectors.catalogue import DETECTORS, PAPER, PRODUCT
from difffs.study.result import Cell, Section, Table, Unit, show
from difffs.study.sections import similarity
from tests.study.sections.section_checks import check_corpora, check_plots, check_words, numbers

CORPORA = ("alike", "different")


@pytest.fixture
def section(context: Context) -> Section:
    return similarity.run(context)


def test_words_plots_and_cells(section: Section) -> None:
    check_words(section, findings=len(CORPORA))
    for corpus, finding in zip(CORPORA, section.findings, strict=True):
        assert finding.startswith(f"On {corpus}, ")
    check_plots(section)
    check_corpora(section, CORPORA)


def test_every_detector_is_in_the_tables(section: Section) -> None:
    for name, expected in (
        ("detectors", [*DETECTORS]),
        ("detector_oracle", [*DETECTORS, *passes.ORACLES]),
    ):
        for corpus in CORPORA:
            rows = section.table(name).rows
            assert [row["detector"] for row in rows if row["corpus"] == corpus] == expected


def test_shares_are_shares_and_the_index_costs(section: Section) -> None:
    table = section.table("detectors")
    for row in table.rows:
        found, coverage, saving, net = (
            numbers(table, key, corpus=row["corpus"], detector=row["detector"])[0]
            for key in ("found", "coverage", "saving", "net")
        )
        assert 0 <= coverage <= found <= 1
        assert net < saving < 1
        assert saving >= 0


def test_net_is_less_by_the_index(context: Context, section: Section) -> None:
    corpus = context.corpora[0]
    parameters = {"detectors": [PAPER.name], "sample": context.sample, "seed": context.seed}
    result = passes.detector_pass(corpus.images, context.scratch, parameters)
    counted = result["detectors"][PAPER.name]
    table = section.table("detectors")
    where = {"corpus": corpus.name, "detector": PAPER.name}
    assert numbers(table, "coverage", **where) == [counted["whole"]["taken"] / result["pages"]]
    assert numbers(table, "index", **where) == [4 * counted["slots"]]
    (saving,) = numbers(table, "saving", **where)
    (net,) = numbers(table, "net", **where)
    assert saving == 1 - counted["whole"]["kept"] / result["alone"]
    assert (saving - net) * result["alone"] == pytest.approx(4 * counted["slots"])


def test_tries_are_counted_in_the_time(section: Section) -> None:
    table = section.table("detectors")
    for row in table.rows:
        sketch_us, lookup_us, all_us, found = (
            numbers(table, key, corpus=row["corpus"], detector=row["detector"])[0]
            for key in ("sketch_us", "lookup_us", "all_us", "found")
        )
        assert (all_us > sketch_us + lookup_us) is (found > 0)


def test_the_best_of_each_family_is_there(section: Section) -> None:
    everything, table = section.table("detectors"), section.table("detector_worth")
    for corpus in CORPORA:
        chosen = {row["detector"]: row for row in table.rows if row["corpus"] == corpus}
        families = {row["family"]: name for name, row in chosen.items()}
        assert set(families) == {detector.family for detector in DETECTORS.values()}
        assert {PAPER.name, PRODUCT.name} < set(chosen)
        assert max(numbers(table, "net", corpus=corpus)) == max(
            numbers(everything, "net", corpus=corpus)
        )
        for name, row in chosen.items():
            (all_us,) = numbers(everything, "all_us", corpus=corpus, detector=name)
            (saved,) = numbers(table, "bytes_a_page", corpus=corpus, detector=name)
            assert row["bytes_a_us"] == pytest.approx(saved / all_us)


def test_the_best_oracle_is_the_measure(section: Section) -> None:
    table = section.table("detector_oracle")
    for corpus in CORPORA:
        shares = [numbers(table, "of_oracle", corpus=corpus, detector=o)[0] for o in passes.ORACLES]
        assert max(shares) == 1
        several = numbers(table, "saving", corpus=corpus, detector="smallest of 16 patches")
        one = numbers(table, "saving", corpus=corpus, detector="exact overlap of 32 bytes")
        assert several >= one
        assert len(set(numbers(table, "pages", corpus=corpus))) == 1


def test_the_products_table_is_that_of_an_import(section: Section) -> None:
    table = section.table("product_sketch")
    for corpus in CORPORA:
        (saving,) = numbers(table, "saving", corpus=corpus)
        (net,) = numbers(table, "net", corpus=corpus)
        assert net < saving
        (bases,) = numbers(table, "bases", corpus=corpus)
        (index,) = numbers(table, "index", corpus=corpus)
        assert numbers(table, "base_bytes", corpus=corpus) == [index / bases]


def changed(table: Table, changes: Mapping[str, Mapping[str, Cell]]) -> Table:
    """The table with cells of some detectors changed."""
    return replace(
        table, rows=[{**row, **changes.get(str(row["detector"]), {})} for row in table.rows]
    )


def test_the_conclusion_follows_the_figures(section: Section) -> None:
    names = ("detectors", "detector_oracle", "product_sketch")
    detectors, oracle, product = (section.table(name) for name in names)
    costly: dict[str, dict[str, Cell]] = {name: {"net": -0.5, "saving": 0.1} for name in DETECTORS}
    costly[PAPER.name] = {"net": -0.01, "saving": 0.05}
    text = similarity._conclusion(changed(detectors, costly), oracle, product)
    assert text.startswith("No detector is worth its index: the best of them saves -1.0 % net of")
    best: dict[str, dict[str, Cell]] = {PRODUCT.name: {"net": 0.9, "saving": 0.95}}
    changed_detectors = changed(detectors, best)
    text = similarity._conclusion(changed_detectors, oracle, product)
    assert f"worth most net of its index is {PRODUCT.name}: it saves 90.0 % of what" in text
    assert "the product's, " not in text
    assert f"In the same way the paper's, {PAPER.name}, saves " in text
    assert "saves most" not in similarity._finding("alike", changed_detectors, oracle, product)
    unpaid = replace(product, rows=[{**row, "net": -0.1} for row in product.rows])
    text = similarity._conclusion(detectors, oracle, unpaid)
    assert "In a real import patching does not pay: it saves -10.0 % of the payload" in text


def test_corpora_that_disagree_are_named(section: Section) -> None:
    names = ("detectors", "detector_oracle", "product_sketch")
    detectors, oracle, product = (section.table(name) for name in names)
    rows = []
    for row in detectors.rows:
        alike = row["corpus"] == "alike"
        net = (0.9 if row["detector"] == PAPER.name else 0.1) if alike else -0.2
        rows.append({**row, "net": net})
    some = replace(product, rows=[{**product.rows[0], "net": 0.1}, {**product.rows[1], "net": 0}])
    text = similarity._conclusion(replace(detectors, rows=rows), oracle, some)
    assert f"is {PAPER.name} on alike, and none on different: it saves 90.0 % of what" in text
    assert "the paper's" not in text.partition("Of what exact overlap")[0]
    assert "patching pays on alike only: it saves 0.0 to 10.0 % of the payload" in text


def test_images_without_pages_to_patch(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(64 * PAGE_SIZE))
    zeros = replace(context, corpora=[Corpus("zeros", (Image.of(path),))])
    section = similarity.run(zeros)
    assert all(table.rows == [] for table in section.tables)
    assert section.conclusion == "The images have no pages that could be patched."
    assert section.findings == []


def test_a_saving_of_next_to_nothing_has_no_sign() -> None:
    """Of detectors that come out even with their index."""
    assert show(-0.0004, Unit.SHARE) == "0.0 %"
    assert show(-0.0006, Unit.SHARE) == "-0.1 %"
