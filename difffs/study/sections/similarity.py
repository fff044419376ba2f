"""5. Finding similar pages: detectors, what they cost, and how far they are from exact overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from difffs.study import similarity, variants
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.detectors.catalogue import DETECTORS, PAPER, PRODUCT
from difffs.study.detectors.detector import Detector
from difffs.study.importing import import_pass
from difffs.study.passes import Pass
from difffs.study.result import Cell, Column, Plot, PlotKind, Row, Section, Table, Unit
from difffs.study.wording import agreed, corpora_of, listed, number, span, where

NUMBER = 5
NAME = "similarity"
TITLE = "Finding similar pages"


class _Found(NamedTuple):
    """All results of a corpus."""

    pages: Result
    """What is the same for all detectors: see detector_pass()."""
    detectors: dict[str, Result]
    """By detector, in the catalogue's order."""
    times: Result
    oracles: Result
    product: Result
    unpatched: Result
    """The product's import without patching."""


def run(context: Context) -> Section:
    """Find and patch everything by each detector, then a sample by exact overlap."""
    sample: dict[str, Any] = {"sample": context.sample, "seed": context.seed}
    families: dict[str, list[str]] = {}
    for detector in DETECTORS.values():
        families.setdefault(detector.family, []).append(detector.name)
    passes = [
        Pass(
            "detectors",
            similarity.DETECTOR_PASS_VERSION,
            similarity.detector_pass,
            corpus.images,
            {"detectors": names, **sample},
        )
        for corpus in context.corpora
        for names in families.values()
    ]
    passes += [import_pass(c.images, variants.LEFT_OUT["patch"]) for c in context.corpora]
    results = iter(context.results(passes))
    by_family = {c.name: [next(results) for _ in families] for c in context.corpora}
    unpatched = {c.name: next(results) for c in context.corpora}
    oracles = context.each_corpus(
        "similarity oracle", similarity.ORACLE_PASS_VERSION, similarity.oracle_pass, **sample
    )
    product = context.each_corpus(
        "product sketch", similarity.PRODUCT_PASS_VERSION, similarity.product_pass
    )
    times = context.each_corpus(
        "detector times",
        similarity.TIME_PASS_VERSION,
        similarity.time_pass,
        timed=True,
        detectors=list(DETECTORS),
        **sample,
    )
    found = {}
    for corpus, of_families in by_family.items():
        merged = {name: one for part in of_families for name, one in part["detectors"].items()}
        found[corpus] = _Found(
            of_families[0],
            {name: merged[name] for name in DETECTORS},
            times[corpus],
            oracles[corpus],
            product[corpus],
            unpatched[corpus],
        )
    found = {corpus: one for corpus, one in found.items() if one.pages["pages"]}
    detectors, overlap, imported = (
        _detector_table(found),
        _oracle_table(found),
        _product_table(found),
    )
    tables = [detectors, _worth_table(found, detectors), overlap, imported]
    conclusion = _conclusion(detectors, overlap, imported)
    findings = [_finding(corpus, detectors, overlap, imported) for corpus in found]
    return Section(NUMBER, NAME, TITLE, tables, _plots(), conclusion, findings)


def _detector_table(found: Mapping[str, _Found]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, (common, detectors, times, *_others) in found.items():
        pages, alone = common["pages"], common["alone"]
        for name, result in detectors.items():
            whole = result["whole"]
            index = similarity.SLOT_BYTES * result["slots"]
            sketch_us, lookup_us = times["sketch_us"][name], times["lookup_us"][name]
            rows.append(
                {
                    "corpus": corpus,
                    "detector": name,
                    "found": whole["found"] / pages,
                    "coverage": whole["taken"] / pages,
                    "wasted": (whole["tries"] - whole["taken"]) / pages,
                    "saving": 1 - whole["kept"] / alone,
                    "index": index,
                    "net": 1 - (whole["kept"] + index) / alone,
                    "sketch_us": sketch_us,
                    "lookup_us": lookup_us,
                    "all_us": sketch_us + lookup_us + times["try_us"] * whole["tries"] / pages,
                }
            )
    return Table(
        "detectors",
        "Detectors of similar pages",
        [
            Column("corpus", "corpus"),
            Column("detector", "detector"),
            Column("found", "found a candidate", Unit.SHARE),
            Column("coverage", "patched", Unit.SHARE),
            Column("wasted", "wasted tries a page", Unit.FACTOR),
            Column("saving", "saving", Unit.SHARE),
            Column("index", "index MiB", Unit.MEBIBYTES),
            Column("net", "saving net of index", Unit.SHARE),
            Column("sketch_us", "sketch us", Unit.MICROSECONDS),
            Column("lookup_us", "lookup us", Unit.MICROSECONDS),
            Column("all_us", "with tries us", Unit.MICROSECONDS),
        ],
        rows,
        "(k,s): Difference Engine's keys, each of s fixed blocks, with c pages kept a key: the"
        " first ones, as in the paper, or the newest. N-transform, Finesse and Odess have three"
        " super-features of 4 features, or 12 features that vote; min-hash has a feature for each"
        " bin, of windows of 32 bytes if not told. All distinct pages in their order; a patched"
        " page is no base; the index of bases has no bounds and takes 4 bytes for each page that it"
        " remembers for a feature. Patches by zstd 1 with the base as prefix, taken by default's"
        " rule; savings are of the bytes that zstd 1 alone makes of these pages. Times are"
        " processor time a page, in native code.",
    )


def _worth_table(found: Mapping[str, _Found], detectors: Table) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, one in found.items():
        pages, alone = one.pages["pages"], one.pages["alone"]
        of_corpus = [row for row in detectors.rows if row["corpus"] == corpus]
        chosen = {PAPER.name, PRODUCT.name}
        for family in {detector.family for detector in DETECTORS.values()}:
            of_family = [row for row in of_corpus if _named(row).family == family]
            chosen.add(_largest(of_family, "net"))
        for row in of_corpus:
            net, all_us = number(row["net"]), number(row["all_us"])
            if row["detector"] in chosen:
                rows.append(
                    {
                        "corpus": corpus,
                        "family": _named(row).family,
                        "detector": row["detector"],
                        "all_us": all_us,
                        "net": net,
                        "bytes_a_page": net * alone / pages,
                        "bytes_a_us": net * alone / pages / all_us,
                    }
                )
    return Table(
        "detector_worth",
        "The best of each family for its time",
        [
            Column("corpus", "corpus"),
            Column("family", "family"),
            Column("detector", "detector"),
            Column("all_us", "with tries us", Unit.MICROSECONDS),
            Column("net", "saving net of index", Unit.SHARE),
            Column("bytes_a_page", "bytes saved a page", Unit.MEAN_BYTES),
            Column("bytes_a_us", "bytes saved a us", Unit.MEAN_BYTES),
        ],
        rows,
        "Of each family the one that saves most net of its index, with the paper's detector and the"
        " product's.",
    )


def _oracle_table(found: Mapping[str, _Found]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, (common, detectors, _times, oracles, *_others) in found.items():
        pages, alone = common["sample_pages"], common["sample_alone"]
        most = max(alone - tally["kept"] for tally in oracles.values())
        tallies = [(name, one["sample_of_all"], one["sample"]) for name, one in detectors.items()]
        tallies += [(name, tally, None) for name, tally in oracles.items()]
        rows += [
            {
                "corpus": corpus,
                "detector": name,
                "pages": pages,
                "coverage": tally["taken"] / pages,
                "tries": tally["tries"] / pages,
                "saving": 1 - tally["kept"] / alone,
                "of_oracle": (alone - tally["kept"]) / most if most else None,
                "as_stored": None if stored is None else 1 - stored["kept"] / alone,
            }
            for name, tally, stored in tallies
        ]
    best = similarity.ORACLE_BEST
    return Table(
        "detector_oracle",
        "Detectors and exact overlap, on a sample",
        [
            Column("corpus", "corpus"),
            Column("detector", "detector"),
            Column("pages", "pages", Unit.COUNT),
            Column("coverage", "patched", Unit.SHARE),
            Column("tries", "tries a page", Unit.FACTOR),
            Column("saving", "saving", Unit.SHARE),
            Column("of_oracle", "of the best oracle's", Unit.SHARE),
            Column("as_stored", "saving with unpatched bases", Unit.SHARE),
        ],
        rows,
        "Here every earlier page may be a base, also for the detectors; only the last column is"
        " with unpatched bases, as in a store, for the same pages. The oracles know the distinct"
        " windows (at multiples of 8 bytes) that a page has in common with each earlier page, and"
        " patch against the page with most, or take the smallest patch of those with the"
        f" {best} most by either kind of window. That bounds overlap from above, not patches from"
        " below: a base with less in common can make a smaller one. No index is counted.",
    )


def _product_table(found: Mapping[str, _Found]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, one in found.items():
        product, pages = one.product, one.product["pages"]
        payload = product["bytes"]["payload"]
        without = one.unpatched["bytes"]["payload"]
        bases = pages["compress"] + pages["raw"]
        slots = one.detectors[PRODUCT.name]["slots"]
        rows.append(
            {
                "corpus": corpus,
                "bases": bases,
                "coverage": pages["patch"] / max(1, pages["patch"] + bases),
                "saving": 1 - payload / without,
                "index": product["sketch_bytes"],
                "net": 1 - (payload + product["sketch_bytes"]) / without,
                "base_bytes": product["sketch_bytes"] / max(1, bases),
                "feature_bytes": product["sketch_bytes"] / max(1, slots),
            }
        )
    return Table(
        "product_sketch",
        "The product's sketch table in a real import",
        [
            Column("corpus", "corpus"),
            Column("bases", "bases", Unit.COUNT),
            Column("coverage", "patched", Unit.SHARE),
            Column("saving", "saving", Unit.SHARE),
            Column("index", "table MiB", Unit.MEBIBYTES),
            Column("net", "saving net of table", Unit.SHARE),
            Column("base_bytes", "bytes a base", Unit.MEAN_BYTES),
            Column("feature_bytes", "bytes a feature", Unit.MEAN_BYTES),
        ],
        rows,
        "Imports with default, and with default less patching, which savings are measured against;"
        " both compress with the store's dictionary. The table is bounded, and candidates with one"
        " feature in common are tried only as long as that pays. A feature is one that the"
        " unbounded index above remembers for the same sketch.",
    )


def _plots() -> list[Plot]:
    return [
        Plot(
            "detector_net",
            "Saving net of the index",
            PlotKind.BARS,
            "detectors",
            x="detector",
            y="net",
            panel="corpus",
        ),
        Plot(
            "detector_coverage",
            "Pages patched, of the distinct ones",
            PlotKind.BARS,
            "detectors",
            x="detector",
            y="coverage",
            panel="corpus",
        ),
        Plot(
            "detector_oracle",
            "Saving on the sample, where every earlier page may be a base",
            PlotKind.BARS,
            "detector_oracle",
            x="detector",
            y="saving",
            panel="corpus",
        ),
        Plot(
            "detector_worth",
            "Saving net of the index against time, the best of each family",
            PlotKind.POINTS,
            "detector_worth",
            x="all_us",
            y="net",
            series="detector",
            panel="corpus",
        ),
    ]


def _conclusion(detectors: Table, oracle: Table, product: Table) -> str:
    if not detectors.rows:
        return "The images have no pages that could be patched."
    return " ".join([*_about_worth(detectors), *_about_oracle(oracle), _about_product(product)])


def _about_worth(detectors: Table) -> list[str]:
    corpora = corpora_of(detectors)
    best = {corpus: _largest(detectors.select(corpus=corpus), "net") for corpus in corpora}
    rows = [
        row
        for corpus, name in best.items()
        for row in detectors.select(corpus=corpus, detector=name)
    ]
    paid = [row for row in rows if number(row["net"]) > 0]
    if not paid:
        return [
            "No detector is worth its index: the best of them saves"
            f" {span(detectors, 'net', rows)} net of it, of what zstd 1 makes of the distinct"
            " pages."
        ]

    said = {
        corpus: best[corpus] if row in paid else "none"
        for corpus, row in zip(corpora, rows, strict=True)
    }

    def over(key: str, detector: str) -> str:
        return span(detectors, key, detectors.select(detector=detector))

    sentences = [
        f"The detector that is worth most net of its index is {agreed(said)}: it saves"
        f" {span(detectors, 'net', paid, 'corpus')} of what zstd 1 makes of the distinct pages, the"
        f" index counted, in {span(detectors, 'all_us', paid)} us a page."
    ]
    others = [
        f"{title} saves {over('net', name)} in {over('all_us', name)} us"
        for title, name in (
            (f"the product's, {PRODUCT.name},", PRODUCT.name),
            (f"the paper's, {PAPER.name},", PAPER.name),
        )
        if {best[str(row["corpus"])] for row in paid} != {name}
    ]
    if others:
        sentences.append(f"In the same way {listed(others)}.")
    return sentences


def _about_oracle(oracle: Table) -> list[str]:
    rows = [row for row in oracle.rows if row["of_oracle"] is not None]
    if not rows:
        return ["Exact overlap finds nothing to patch in the sample."]

    def over(detector: str) -> str:
        return span(oracle, "of_oracle", [row for row in rows if row["detector"] == detector])

    return [
        "Of what exact overlap can save on a sample, the product's reaches"
        f" {over(PRODUCT.name)}, the paper's {over(PAPER.name)}."
    ]


def _about_product(product: Table) -> str:
    corpora = corpora_of(product)
    paying = [c for c in corpora if number(product.value("net", corpus=c)) > 0]
    verdict = f"pays{where(paying, corpora)}" if paying else "does not pay"
    return (
        f"In a real import patching {verdict}: it saves {span(product, 'net', product.rows)} of the"
        " payload, net of the table."
    )


def _finding(corpus: str, detectors: Table, oracle: Table, product: Table) -> str:
    def text(key: str, detector: str) -> str:
        return detectors.text(key, corpus=corpus, detector=detector)

    rows = detectors.select(corpus=corpus)
    best, most = _largest(rows, "net"), _largest(rows, "saving")
    told = (
        f"On {corpus}, {best} patches {text('coverage', best)} of the distinct pages and saves"
        f" {text('saving', best)}, {text('net', best)} net of its index"
    )
    if most != best:
        told += f"; {most} saves {text('saving', most)}, net only {text('net', most)}"
    told += f". {_oracle_finding(corpus, oracle)}"
    bytes_a_base, saving = (product.text(key, corpus=corpus) for key in ("base_bytes", "saving"))
    return (
        f"{told} The product's table takes {bytes_a_base} bytes a base and saves {saving} of the"
        " payload."
    )


def _oracle_finding(corpus: str, oracle: Table) -> str:
    def text(key: str, detector: str) -> str:
        return oracle.text(key, corpus=corpus, detector=detector)

    rows = oracle.select(corpus=corpus)
    best = _largest([row for row in rows if row["detector"] in similarity.ORACLES], "saving")
    nearest = _largest([row for row in rows if row["detector"] in DETECTORS], "saving")
    if oracle.value("of_oracle", corpus=corpus, detector=best) is None:
        return "Exact overlap finds nothing to patch in the sample."
    return (
        f"Exact overlap saves {text('saving', best)} of the sample at best, of which"
        f" {nearest} reaches most, {text('of_oracle', nearest)}."
    )


def _largest(rows: Sequence[Row], key: str) -> str:
    """The detector with the largest of these cells."""
    return str(max(rows, key=lambda row: number(row[key]))["detector"])


def _named(row: Row) -> Detector:
    return DETECTORS[str(row["detector"])]
