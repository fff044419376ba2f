"""Section 2 on the small corpora."""

from pathlib import Path
from random import Random

import pytest

from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study import patching, variants
from difffs.study.cache import Cache
from difffs.study.context import Context
from difffs.study.corpus import Corpus, Image
from difffs.study.importing import import_pass
from difffs.study.patchers import PATCHERS
from difffs.study.peers.host import tool_obstacle
from difffs.study.result import Section
from difffs.study.sections import patchers
from tests.pages import random_page
from tests.study.sections.section_checks import check_corpora, check_plots, check_words, numbers

CORPORA = ("alike", "different")


@pytest.fixture
def section(context: Context) -> Section:
    return patchers.run(context)


def test_words_plots_and_cells(section: Section) -> None:
    check_words(section, findings=len(CORPORA))
    assert section.conclusion.startswith(("Which patcher serves best", "One patcher serves best"))
    for corpus, finding in zip(CORPORA, section.findings, strict=True):
        assert finding.startswith(f"On {corpus}, the page bsdiff makes ")
        assert "its goal is " in finding
    check_plots(section)
    check_corpora(section, CORPORA)


def test_sizes_agree_from_table_to_table(context: Context, section: Section) -> None:
    table, sizes = section.table("patchers"), section.table("patch_sizes")
    curves = section.table("patch_curves")
    for corpus in CORPORA:
        (alone,) = numbers(table, "mean", corpus=corpus, patcher="no patch: the page by zstd 1")
        for patcher in PATCHERS:
            where = {"corpus": corpus, "patcher": patcher}
            (mean,) = numbers(table, "mean", **where)
            assert 0 < mean < PAGE_SIZE
            quantiles = [numbers(sizes, key, **where)[0] for key in ("p5", "p25", "p50", "p75")]
            assert quantiles == sorted(quantiles)
            shares = [numbers(sizes, f"below_{n}", **where)[0] for n in (64, 256, 1024)]
            assert 0 <= shares[0] <= shares[1] <= shares[2] <= 1
            (none,) = numbers(sizes, "none", **where)
            assert 0 <= none <= 1 - shares[2]
        (measure,) = numbers(table, "mean", corpus=corpus, patcher="zstd 1")
        assert measure < alone
        assert numbers(table, "to_measure", corpus=corpus, patcher="zstd 1") == [1]
        for patcher in patchers._CURVES:
            curve = numbers(curves, "share", corpus=corpus, patcher=patcher)
            assert curve == sorted(curve)
            assert curve[0] == 0
            assert curve[-1] == 1


def test_patches_are_taken_as_the_router_takes_them() -> None:
    ratio = RECIPES["default"].patch_ratio
    alone = 1000
    limit = alone * ratio // 256 - 4  # the base's number
    assert patchers._taken([limit, limit + 1, 10, 900], [alone] * 4) == 0.5


@pytest.mark.parametrize(
    ("share", "expected"), [(0.05, 1), (0.25, 3), (0.5, 5), (0.75, 8), (0.95, 10)]
)
def test_quantiles_are_numbers_of_the_sample(share: float, expected: int) -> None:
    assert patchers._quantile(range(1, 11), share) == expected
    assert patchers._quantile([7], share) == 7


@pytest.mark.parametrize(
    ("ratio", "time", "goal"),
    [
        (1, 5, "reached"),
        (1.01, 5, "missed in bytes"),
        (1, 5.01, "missed in time"),
        (1.2, 7, "missed in bytes and time"),
    ],
)
def test_the_goal(ratio: float, time: float, goal: str) -> None:
    assert patchers._goal({"bytes": ratio, "time": time}) == goal


def test_the_goal_is_judged_by_the_first_tables_figures(section: Section) -> None:
    table, goal = section.table("patchers"), section.table("page_bsdiff_goal")
    for corpus in CORPORA:
        for key, of_table in (
            ("bytes", "mean"),
            ("time", "encode_us"),
            ("decode_time", "decode_us"),
        ):
            ours, theirs = (
                numbers(table, of_table, corpus=corpus, patcher=patcher)[0]
                for patcher in ("page bsdiff", "zstd 1")
            )
            assert numbers(goal, key, corpus=corpus) == [pytest.approx(ours / theirs)]
        assert numbers(goal, "bytes", corpus=corpus)[0] < 1
        (share,) = numbers(goal, "no_larger", corpus=corpus)
        assert 0.5 < share <= 1


def test_cases_are_imports_with_each_patcher(context: Context, section: Section) -> None:
    table = section.table("patch_cases")
    corpus = context.corpora[0]
    for case, name, patcher in (
        ("all", "default", "page bsdiff"),
        ("identical + patch", "patch-only", "XBZRLE"),
    ):
        recipe = variants.with_patcher(RECIPES[name], patcher)
        (result,) = context.results([import_pass(corpus.images, recipe)])
        where = {"corpus": corpus.name, "case": case, "patcher": patcher}
        assert numbers(table, "factor", **where) == [result["factor"]]
        assert numbers(table, "stored", **where) == [result["bytes"]["stored"]]
        (patched,) = numbers(table, "patched", **where)
        assert patched == pytest.approx(result["pages"]["patch"] / result["pages"]["total"])
        assert patched > 0
    assert len(table.rows) == len(CORPORA) * 2 * len(variants.PATCHERS)
    # of the first section's cache
    (default,) = context.results([import_pass(corpus.images, RECIPES["default"])])
    assert numbers(table, "factor", corpus=corpus.name, case="all", patcher="zstd 1") == [
        default["factor"]
    ]


def test_the_tool_is_compared_where_it_is(section: Section) -> None:
    if obstacle := tool_obstacle(patching.TOOL, "xdelta3"):
        pytest.skip(obstacle)
    assert section.absent == []
    table = section.table("patch_tool")
    for corpus in CORPORA:
        assert numbers(table, "decoded", corpus=corpus) == [1, 1]
        for patch, stream in zip(
            numbers(table, "patch", corpus=corpus),
            numbers(table, "stream", corpus=corpus),
            strict=True,
        ):
            assert 5 < stream - patch <= 18
        ratios = [numbers(table, key, corpus=corpus) for key in ("p5", "p50", "p95")]
        assert ratios[0] <= ratios[1] <= ratios[2]
        assert all(0.5 < ratio < 1.2 for ratio in numbers(table, "ratio", corpus=corpus))
    assert all("decodes all of our VCDIFF streams" in finding for finding in section.findings)


def test_without_the_tool_the_rest_is_there(
    context: Context, section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    without = patchers.run(context)
    assert len(without.absent) == 1
    assert "xdelta3" in without.absent[0]
    assert [table.name for table in without.tables] == [
        table.name for table in section.tables if table.name != "patch_tool"
    ]
    check_words(without, findings=len(CORPORA))
    assert not any("VCDIFF streams" in finding for finding in without.findings)


def test_pages_like_no_others_are_patched_by_nobody(tmp_path: Path, scratch_folder: Path) -> None:
    random = Random(9)
    path = tmp_path / "noise" / "one.mem"
    path.parent.mkdir()
    path.write_bytes(b"".join(random_page(random) for _ in range(32)))
    corpus = Corpus("noise", (Image.of(path),))
    made = patchers.run(Context([corpus], Cache(tmp_path / "cache"), scratch_folder, sample=9))
    assert made.table("patchers").rows == []
    assert {row["patch"] for row in made.table("patch_cases").rows} == {None}
    check_words(made, findings=1)
    assert made.conclusion.startswith("These images have no pages that are similar enough")
    assert made.findings[0].startswith("On noise, no pages are similar, and the factor is")
