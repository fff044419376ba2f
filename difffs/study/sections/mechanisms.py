"""1. Each mechanism alone, all combined, and what each adds."""

from __future__ import annotations

from collections.abc import Mapping

from difffs.recipe import RECIPES, Recipe
from difffs.study import sharing, variants
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.importing import import_pass
from difffs.study.result import Cell, Column, Plot, PlotKind, Section, Table, Unit
from difffs.study.wording import agreed, corpora_of, listed, number, span

NUMBER = 1
NAME = "mechanisms"
TITLE = "Each mechanism alone, and all combined"

ALL_COMBINED = ("default", "fast", "dense", "archive", "difference-engine")
"""Recipes with all mechanisms, as they are."""

_ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")
_WORTH_MENTIONING = 0.05
"""A saving of less than that share of the stored bytes is called small."""


def _variants() -> dict[str, Recipe]:
    """Variant -> recipe, in the order of the table."""
    return {
        "identical": RECIPES["identical-only"],
        "identical + patch": RECIPES["patch-only"],
        **{f"compress: {name}": variants.compress_only(name) for name in variants.COMPRESSORS},
        **{
            f"identical + compress: {name}": variants.identical_and_compress(name)
            for name in variants.COMPRESSORS
        },
        **{f"all: {name}": RECIPES[name] for name in ALL_COMBINED},
        "all: default with zstd 3": variants.all_with("zstd 3"),
    }


def run(context: Context) -> Section:
    """Import every corpus with every variant; everything is counted."""
    chosen = _variants()
    recipes = [*chosen.values(), *variants.LEFT_OUT.values()]
    passes = [
        import_pass(corpus.images, recipe) for corpus in context.corpora for recipe in recipes
    ]
    results = iter(context.results(passes))
    by_corpus: dict[str, dict[str, Result]] = {
        corpus.name: {recipe.name: next(results) for recipe in recipes}
        for corpus in context.corpora
    }
    digests = context.each_image("digests", sharing.DIGEST_PASS_VERSION, sharing.digest_pass)
    shared = {name: sharing.merge(found) for name, found in digests.items()}
    verdict, left_out = _verdict_table(by_corpus), _left_out_table(by_corpus)
    sharing_of = _sharing_table(shared)
    tables = [
        _mechanism_table(chosen, by_corpus),
        verdict,
        _contribution_table(by_corpus),
        left_out,
        sharing_of,
    ]
    findings = [_finding(name, verdict, left_out, sharing_of) for name in by_corpus]
    conclusion = _conclusion(verdict, left_out)
    return Section(NUMBER, NAME, TITLE, tables, _plots(), conclusion, findings)


def _mechanism_table(
    chosen: Mapping[str, Recipe], by_corpus: Mapping[str, Mapping[str, Result]]
) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in by_corpus.items():
        for variant, recipe in chosen.items():
            result = results[recipe.name]
            sizes = result["bytes"]
            rows.append(
                {
                    "corpus": corpus,
                    "variant": variant,
                    "stored": sizes["stored"],
                    "payload": sizes["payload"],
                    "metadata": sizes["metadata"],
                    "slack": sizes["slack"],
                    "factor": result["factor"],
                    "payload_factor": sizes["logical"] / max(1, sizes["payload"]),
                }
            )
    return Table(
        "mechanisms",
        "Logical bytes by stored bytes",
        [
            Column("corpus", "corpus"),
            Column("variant", "routes besides zero and same"),
            Column("factor", "factor", Unit.FACTOR),
            Column("payload_factor", "payloads only", Unit.FACTOR),
            Column("stored", "stored MiB", Unit.MEBIBYTES),
            Column("payload", "payloads MiB", Unit.MEBIBYTES),
            Column("metadata", "metadata MiB", Unit.MEBIBYTES),
            Column("slack", "slack MiB", Unit.MEBIBYTES),
        ],
        rows,
        "Imports with the product's own engine into a new store, which was then closed. The factor"
        " counts all bytes that the store occupies: payloads, index, tables, slack. Pages of zeros"
        " and pages of one repeated word never take a payload of more than 8 bytes.",
    )


def _stored(result: Result) -> int:
    return int(result["bytes"]["stored"])


def _verdict_table(by_corpus: Mapping[str, Mapping[str, Result]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in by_corpus.items():
        compress = _stored(results["compress: zstd 1, dictionary"])
        identical = _stored(results["identical + compress: zstd 1, dictionary"])
        everything = _stored(results["default"])
        logical = results["default"]["bytes"]["logical"]
        rows.append(
            {
                "corpus": corpus,
                "compress": logical / compress,
                "identical": logical / identical,
                "all": logical / everything,
                "paper": results["difference-engine"]["factor"],
                "by_sharing": 1 - identical / compress,
                "by_patching": 1 - everything / identical,
                "by_both": 1 - everything / compress,
                "over_paper": results["default"]["factor"] / results["difference-engine"]["factor"],
            }
        )
    return Table(
        "verdict",
        "Is it worth more than compression alone?",
        [
            Column("corpus", "corpus"),
            Column("compress", "compress alone", Unit.FACTOR),
            Column("identical", "+ identical", Unit.FACTOR),
            Column("all", "+ patch (default)", Unit.FACTOR),
            Column("paper", "difference-engine", Unit.FACTOR),
            Column("by_sharing", "stored bytes saved by sharing", Unit.SHARE),
            Column("by_patching", "then by patching", Unit.SHARE),
            Column("by_both", "by both", Unit.SHARE),
            Column("over_paper", "default / difference-engine", Unit.FACTOR),
        ],
        rows,
        "Compression is zstd 1 with the store's dictionary in the first three factors, lz4 in that"
        " of difference-engine. Index bytes count, so that a share can be negative.",
    )


def _contribution_table(by_corpus: Mapping[str, Mapping[str, Result]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in by_corpus.items():
        result = results["default"]
        logical = result["bytes"]["logical"]
        for route in _ROUTES:
            counter = result["routes"][route]
            saved = counter["bytes_in"] - counter["bytes_out"]
            rows.append(
                {
                    "corpus": corpus,
                    "route": route,
                    "pages": counter["count"],
                    "pages_share": counter["bytes_in"] / logical,
                    "bytes_out": counter["bytes_out"],
                    "saved": saved,
                    "saved_share": saved / logical,
                }
            )
        overhead = result["bytes"]["metadata"] + result["bytes"]["slack"]
        rows.append(
            {
                "corpus": corpus,
                "route": "index and slack",
                "pages": None,
                "pages_share": None,
                "bytes_out": overhead,
                "saved": -overhead,
                "saved_share": -overhead / logical,
            }
        )
    return Table(
        "contributions",
        "What each route of default keeps away, in routing order",
        [
            Column("corpus", "corpus"),
            Column("route", "route"),
            Column("pages", "pages", Unit.COUNT),
            Column("pages_share", "of all pages", Unit.SHARE),
            Column("bytes_out", "kept MiB", Unit.MEBIBYTES),
            Column("saved", "saved MiB", Unit.MEBIBYTES),
            Column("saved_share", "of logical", Unit.SHARE),
        ],
        rows,
        "A page counts for the first route that takes it; what sharing takes, compression would"
        " have made smaller as well. The next table asks the other way round.",
    )


def _left_out_table(by_corpus: Mapping[str, Mapping[str, Result]]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, results in by_corpus.items():
        everything = _stored(results["default"])
        for name, recipe in variants.LEFT_OUT.items():
            result = results[recipe.name]
            rows.append(
                {
                    "corpus": corpus,
                    "left_out": name,
                    "factor": result["factor"],
                    "factor_all": results["default"]["factor"],
                    "more": _stored(result) - everything,
                    "more_share": _stored(result) / everything - 1,
                }
            )
    return Table(
        "left_out",
        "What is lost when one mechanism is left out of default",
        [
            Column("corpus", "corpus"),
            Column("left_out", "left out"),
            Column("factor", "factor without", Unit.FACTOR),
            Column("factor_all", "with", Unit.FACTOR),
            Column("more", "more stored MiB", Unit.MEBIBYTES),
            Column("more_share", "more stored", Unit.SHARE),
        ],
        rows,
        "Negative where leaving it out stores less. Left out: sharing; patching (and its sketches);"
        " compression of what is not patched; the dictionary of zstd.",
    )


def _sharing_table(shared: Mapping[str, sharing.Sharing]) -> Table:
    rows: list[dict[str, Cell]] = [
        {
            "corpus": corpus,
            "pages": found.pages,
            "zero": found.zero / found.pages,
            "same": found.same / found.pages,
            "within": found.within / found.pages,
            "across": found.across / found.pages,
            "distinct": found.distinct / found.pages,
        }
        for corpus, found in shared.items()
    ]
    return Table(
        "sharing",
        "Which pages are the same, within a guest and across guests",
        [
            Column("corpus", "corpus"),
            Column("pages", "pages", Unit.COUNT),
            Column("zero", "zero", Unit.SHARE),
            Column("same", "one repeated word", Unit.SHARE),
            Column("within", "again in the same guest", Unit.SHARE),
            Column("across", "again in another guest", Unit.SHARE),
            Column("distinct", "distinct", Unit.SHARE),
        ],
        rows,
        "Shares of all pages; they add up to the whole.",
    )


def _plots() -> list[Plot]:
    return [
        Plot(
            "mechanisms",
            "What each mechanism is worth, alone and together",
            PlotKind.BARS,
            "mechanisms",
            x="variant",
            y="factor",
            panel="corpus",
        ),
        Plot(
            "left_out",
            "Stored bytes more when one mechanism is left out",
            PlotKind.BARS,
            "left_out",
            x="left_out",
            y="more_share",
            series="corpus",
        ),
        Plot(
            "contributions",
            "Bytes saved by each route, in routing order",
            PlotKind.STACK,
            "contributions",
            x="corpus",
            y="saved_share",
            series="route",
        ),
    ]


_MECHANISMS = {
    "identical": "sharing",
    "patch": "patching",
    "compress": "compression",
    "dictionary": "zstd's dictionary",
}
"""How what is left out reads in a sentence."""


def _conclusion(verdict: Table, left_out: Table) -> str:
    corpora = corpora_of(verdict)

    def over(key: str) -> str:
        return span(verdict, key, verdict.rows, "corpus")

    judgement = agreed({corpus: _judgement(verdict, corpus) for corpus in corpora})
    missed = {corpus: _most_missed(left_out, corpus) for corpus in corpora}
    most = [
        row
        for corpus, name in missed.items()
        for row in left_out.select(corpus=corpus, left_out=name)
    ]
    shown = [
        verdict.text(key, corpus=corpus)
        for corpus in corpora
        for key in ("by_sharing", "by_patching")
    ]
    below_zero = (
        " (negative where the index takes more than is saved)"
        if any(text.startswith("-") for text in shown)
        else ""
    )
    return (
        f"Over compression alone, deduplication gives {judgement}: sharing identical pages takes"
        f" {over('by_sharing')} off the stored bytes, patching similar pages then"
        f" {over('by_patching')}{below_zero}, both together {over('by_both')}. Compression alone"
        f" reaches a factor of {span(verdict, 'compress', verdict.rows)}, all three mechanisms"
        f" {span(verdict, 'all', verdict.rows)}, the paper's own recipe"
        f" {span(verdict, 'paper', verdict.rows)}. The mechanism that is missed most when it is"
        f" left out is {agreed({c: _MECHANISMS[name] for c, name in missed.items()})}: without it"
        f" the store grows by {span(left_out, 'more_share', most)}."
    )


def _judgement(verdict: Table, corpus: str) -> str:
    both = number(verdict.value("by_both", corpus=corpus))
    if both >= _WORTH_MENTIONING:
        return "a significant saving"
    return "a small saving" if both > 0 else "no saving"


def _most_missed(left_out: Table, corpus: str) -> str:
    rows = left_out.select(corpus=corpus)
    return str(max(rows, key=lambda row: number(row["more_share"]))["left_out"])


def _finding(corpus: str, verdict: Table, left_out: Table, shared: Table) -> str:
    changes = []
    for row in left_out.select(corpus=corpus):
        text = left_out.text("more_share", corpus=corpus, left_out=row["left_out"])
        sign = "less" if text.startswith("-") else "more"
        without = _MECHANISMS[str(row["left_out"])]
        changes.append(f"{text.removeprefix('-')} {sign} without {without}")
    factors = {
        key: verdict.text(key, corpus=corpus) for key in ("compress", "identical", "all", "paper")
    }
    return (
        f"On {corpus}, compression alone reaches a factor of {factors['compress']}, with sharing"
        f" {factors['identical']}, with patching as well {factors['all']}, the paper's recipe"
        f" {factors['paper']}. The default recipe stores {listed(changes)}. Of all pages,"
        f" {shared.text('within', corpus=corpus)} stand again in the same guest and"
        f" {shared.text('across', corpus=corpus)} in another one."
    )
