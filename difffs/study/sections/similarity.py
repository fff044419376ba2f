"""5. Finding similar pages: detectors, what they cost, and how far they are from exact overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from difffs.study import similarity, variants
from difffs.study.cache import Result
from difffs.study.context import Context, Pass
from difffs.study.detectors.catalogue import DETECTORS, PAPER, PRODUCT
from difffs.study.detectors.detector import Detector
from difffs.study.importing import import_pass
from difffs.study.result import Cell, Column, Plot, PlotKind, Section, Table, Unit

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
    return Section(NUMBER, NAME, TITLE, tables, _plots(), conclusion)


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
            net, all_us = _number(row["net"]), _number(row["all_us"])
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
    corpora: dict[Cell, None] = {row["corpus"]: None for row in detectors.rows}
    if not corpora:
        return "The images have no pages that could be patched."
    return " ".join(
        sentence
        for corpus in corpora
        for sentence in (
            *_about_worth(corpus, detectors),
            *_about_oracle(corpus, oracle),
            _about_product(corpus, product),
        )
    )


def _about_worth(corpus: Cell, detectors: Table) -> list[str]:
    def text(key: str, detector: Cell) -> str:
        return detectors.text(key, corpus=corpus, detector=detector)

    rows = [row for row in detectors.rows if row["corpus"] == corpus]
    best, most = _largest(rows, "net"), _largest(rows, "saving")
    sentences = []
    if _number(detectors.value("net", corpus=corpus, detector=best)) > 0:
        sentences.append(
            f"On {corpus}, {best} is worth most net of its index: it patches"
            f" {text('coverage', best)} of the distinct pages and saves {text('saving', best)} of"
            f" what zstd 1 makes of them, {text('net', best)} with the index counted, in"
            f" {text('all_us', best)} us a page."
        )
    else:
        sentences.append(
            f"On {corpus}, no detector pays for its index: the best is {best} with"
            f" {text('net', best)}."
        )
    if most != best:
        sentences.append(
            f"Without the index, {most} saves most, {text('saving', most)}, of which its index"
            f" leaves {text('net', most)}."
        )
    if best != PRODUCT.name:
        sentences.append(
            f"The product's own sketch saves {text('saving', PRODUCT.name)}, net"
            f" {text('net', PRODUCT.name)}, in {text('all_us', PRODUCT.name)} us."
        )
    sentences.append(
        f"The paper's {PAPER.name} patches {text('coverage', PAPER.name)} and saves"
        f" {text('saving', PAPER.name)}, net {text('net', PAPER.name)}."
    )
    return sentences


def _about_oracle(corpus: Cell, oracle: Table) -> list[str]:
    def text(key: str, detector: Cell) -> str:
        return oracle.text(key, corpus=corpus, detector=detector)

    rows = [row for row in oracle.rows if row["corpus"] == corpus]
    best = _largest([row for row in rows if row["detector"] in similarity.ORACLES], "saving")
    nearest = _largest([row for row in rows if row["detector"] in DETECTORS], "saving")
    if oracle.value("of_oracle", corpus=corpus, detector=best) is None:
        return ["Exact overlap finds nothing to patch in the sample."]
    sentence = (
        f"Among all earlier pages, exact overlap leads to a saving of {text('saving', best)} on the"
        f" sample at best; the product's sketch reaches {text('of_oracle', PRODUCT.name)} of that,"
        f" the paper's detector {text('of_oracle', PAPER.name)}"
    )
    if nearest != PRODUCT.name:
        sentence += f"; {nearest} comes nearest with {text('of_oracle', nearest)}"
    return [f"{sentence}."]


def _about_product(corpus: Cell, product: Table) -> str:
    def text(key: str) -> str:
        return product.text(key, corpus=corpus)

    net = _number(product.value("net", corpus=corpus))
    judgement = "so patching pays" if net > 0 else "so patching does not pay"
    return (
        f"In a real import the product's table takes {text('base_bytes')} bytes a base, and"
        f" patching saves {text('saving')} of the payload, net of the table {text('net')},"
        f" {judgement}."
    )


def _largest(rows: Sequence[Mapping[str, Cell]], key: str) -> str:
    """The detector with the largest of these cells."""
    return str(max(rows, key=lambda row: _number(row[key]))["detector"])


def _named(row: Mapping[str, Cell]) -> Detector:
    return DETECTORS[str(row["detector"])]


def _number(value: Cell) -> float:
    assert isinstance(value, int | float)
    return value
