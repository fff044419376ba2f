"""3. Does it matter where a page's changes are, and where are they in real pages?"""

from __future__ import annotations

from collections.abc import Mapping

from difffs.study import change_tables, changes, difference_tables, differences
from difffs.study.change_tables import ALL_KINDS, COMPARED, REAL_KINDS
from difffs.study.context import Context
from difffs.study.difference_tables import ALL, SHORT_RUNS
from difffs.study.differences import Place
from difffs.study.patchers import PATCHERS
from difffs.study.result import Cell, Plot, PlotKind, Section, Table
from difffs.study.wording import agreed, corpora_of, grouped, listed, number, span

NUMBER = 3
NAME = "positions"
TITLE = "Where the changes are"

_CHANGED_OF_SAMPLE = 10
"""One in so many pages of the sample is changed, in 35 ways, and patched by every patcher."""

_MATTERS = 1.5
"""The place matters to a patcher whose patches differ by this factor."""

_NAMED_PLACES = 3
"""So many of the most frequent places are named."""

_EVEN = 1.5
"""Changes are spread evenly when no part of the page has so many times as many as another."""


def run(context: Context) -> Section:
    """Patch changed pages, and look at real pairs."""
    pairs = context.each_corpus(
        "differences",
        differences.DIFFERENCE_PASS_VERSION,
        differences.difference_pass,
        pairs=context.sample,
        seed=context.seed,
    )
    changed = context.each_corpus(
        "changes",
        changes.CHANGE_PASS_VERSION,
        changes.change_pass,
        timed=True,
        pages=max(1, context.sample // _CHANGED_OF_SAMPLE),
        seed=context.seed,
    )
    cells = change_tables.cell_table(changed)
    kinds = change_tables.kind_table(changed, cells)
    similarity = difference_tables.similarity_table(pairs)
    places = difference_tables.place_table(pairs)
    runs = difference_tables.run_table(pairs)
    parts = difference_tables.part_table(pairs)
    words = difference_tables.word_table(pairs)
    patches = difference_tables.patch_table(pairs)
    tables = [
        kinds,
        change_tables.mean_table(cells),
        change_tables.time_table(cells),
        similarity,
        places,
        runs,
        parts,
        words,
        patches,
        cells,
        difference_tables.patch_cell_table(pairs),
    ]
    by_name = {table.name: table for table in tables}
    findings = [_finding(corpus.name, by_name) for corpus in context.corpora]
    return Section(NUMBER, NAME, TITLE, tables, _plots(), _conclusion(by_name), findings)


_AT = {
    "end": "at the end",
    "start": "at the start",
    "one run": "in one run",
    "bytes": "in scattered bytes",
    "pointers": "in pointers",
    "shift": "by a shift",
    "other": "in several long runs",
}
"""How Kind and Place read in a sentence."""

_USUAL = "zstd 1"
"""The patcher of default."""


def _conclusion(tables: Mapping[str, Table]) -> str:
    sentences = []
    if tables["position_kinds"].rows:
        sentences += _about_kinds(tables["position_kinds"])
    if tables["position_pairs"].rows:
        sentences += _about_pairs(tables["position_places"], tables["position_patches"])
    return " ".join(sentences) or (
        "These images have neither pages that can be changed nor pages that are similar."
    )


def _about_kinds(kinds: Table) -> list[str]:
    rows = [row for row in kinds.rows if row["patcher"] in PATCHERS]
    ratios = [number(row["ratio"]) for row in rows]
    pieces = max(rows, key=lambda row: number(row["ratio_of_pieces"]))
    if min(ratios) >= _MATTERS:
        judgement = "matters to every patcher"
    elif max(ratios) >= _MATTERS:
        judgement = "matters to some patchers"
    else:
        judgement = "matters little to any patcher"
    at_ends = (
        "matters as well" if number(pieces["ratio_of_pieces"]) >= _MATTERS else "matters little"
    )
    piece_of = kinds.text("ratio_of_pieces", corpus=pieces["corpus"], patcher=pieces["patcher"])
    dearest = grouped(
        {
            patcher: listed(
                list(dict.fromkeys(_AT[str(row["most"])] for row in kinds.select(patcher=patcher))),
                "or",
            )
            for patcher in PATCHERS
        }
    )
    (usual, _names), *others = sorted(dearest.items(), key=lambda item: -len(item[1]))
    patchers = "most patchers" if others else "every patcher"
    exceptions = "".join(f"; with {listed(names)}, those {at}" for at, names in others)
    winners = _winners(kinds)
    if len(winners) == 1:
        best = f"Wherever they are, {winners[0]} makes the smallest patches."
    else:
        best = f"The smallest patches are made by {listed(winners, 'or')}, as the place may be."
    return [
        f"How changes are spread over a page {judgement}, and at which end they are {at_ends}: in"
        f" the worst place as many changed bytes cost {span(kinds, 'ratio', rows, 'patcher')} times"
        f" as much as in the best; in one piece at the end, the start or elsewhere, at most"
        f" {piece_of} times.",
        f"Dearest with {patchers} are changes {usual}{exceptions}. {best}",
    ]


def _winners(kinds: Table) -> list[str]:
    """The patchers that make the smallest patches of some kind of changes in some corpus."""
    found = (
        min(PATCHERS, key=lambda name: number(kinds.value(kind.value, corpus=corpus, patcher=name)))
        for corpus in corpora_of(kinds)
        for kind in REAL_KINDS
    )
    return list(dict.fromkeys(found))


def _about_pairs(places: Table, patches: Table) -> list[str]:
    corpora = corpora_of(patches)
    ranked = {corpus: _ranked(places, corpus) for corpus in corpora}
    first = {corpus: _AT[ranking[0]] for corpus, ranking in ranked.items()}
    most = [
        row
        for corpus, ranking in ranked.items()
        for row in places.select(corpus=corpus, place=ranking[0].value)
    ]
    edges = [
        span(
            places,
            "share",
            [row for row in places.rows if row["corpus"] in ranked and row["place"] == place],
        )
        for place in (Place.START, Place.END)
    ]
    return [
        f"Real pairs of similar pages differ most often {agreed(first)}"
        f" ({span(places, 'share', most)} of the pairs), at the start alone in {edges[0]} and at"
        f" the end alone in {edges[1]}."
    ]


def _ranked(places: Table, corpus: str) -> list[Place]:
    """The places of a corpus' changes, the most frequent ones first."""
    return sorted(
        Place,
        key=lambda place: -number(places.value("share", corpus=corpus, place=place.value)),
    )


def _finding(corpus: str, tables: Mapping[str, Table]) -> str:
    if not tables["position_pairs"].select(corpus=corpus):
        if tables["position_kinds"].select(corpus=corpus):
            return f"On {corpus}, no pages are similar."
        return f"On {corpus} there was nothing to look at."
    sentences = [_about_places(corpus, tables["position_places"])]
    if tables["position_runs"].select(corpus=corpus):
        sentences.append(_about_similar_pairs(corpus, tables))
    sentences.append(_about_patches(corpus, tables["position_patches"]))
    return f"On {corpus}, {' '.join(sentences)}"


def _about_places(corpus: str, places: Table) -> str:
    named = [
        f"{_AT[place]} ({places.text('share', corpus=corpus, place=place.value)})"
        for place in _ranked(places, corpus)[:_NAMED_PLACES]
        if number(places.value("share", corpus=corpus, place=place.value)) > 0
    ]
    return f"the pages of real pairs differ most often {listed(named)}."


def _about_similar_pairs(corpus: str, tables: Mapping[str, Table]) -> str:
    pairs, runs, parts = (tables[f"position_{name}"] for name in ("pairs", "runs", "parts"))
    share, changed, count = (
        pairs.text(key, corpus=corpus, equal="similar") for key in ("share", "changed", "runs")
    )
    every = parts.select(corpus=corpus)
    most = max(every, key=lambda row: number(row["similar"]))
    least = min(every, key=lambda row: number(row["similar"]))
    if number(most["similar"]) < _EVEN * number(least["similar"]):
        spread = "spread evenly over the page"
    elif most["offset"] == 0:
        spread = "most often at the page's start"
    elif most is every[-1]:
        spread = "most often at the page's end"
    else:
        spread = "not spread evenly over the page"
    return (
        f"Of the pairs {share} are similar, with {changed} bytes changed in {count} runs, {spread};"
        f" {runs.text('share', corpus=corpus, length=SHORT_RUNS)} of the runs have {SHORT_RUNS}"
        " bytes."
    )


def _about_patches(corpus: str, patches: Table) -> str:
    def mean(patcher: str) -> float:
        return number(patches.value(patcher, corpus=corpus, place=ALL))

    def text(patcher: str) -> str:
        return patches.text(patcher, corpus=corpus, place=ALL)

    least, most = min(PATCHERS, key=mean), max(PATCHERS, key=mean)
    others = [name for name in (_USUAL, most) if name != least]
    told = [f"{text(name)} with {name}" for name in dict.fromkeys(others)]
    return f"The mean patch takes {text(least)} bytes with {least}, {listed(told)}."


def _plots() -> list[Plot]:
    at_similarity: Mapping[str, Cell] = {"similarity": COMPARED}
    return [
        Plot(
            "position_kinds",
            f"Bytes a patch by where the changes are, {COMPARED} of the bytes equal",
            PlotKind.HEAT,
            "position_cells",
            x="kind",
            y="bytes",
            series="patcher",
            panel="corpus",
            logarithmic=True,
            where=at_similarity,
        ),
        Plot(
            "position_similarities",
            "Bytes a patch by share of bytes that stay, all kinds of changes",
            PlotKind.HEAT,
            "position_cells",
            x="similarity",
            y="bytes",
            series="patcher",
            panel="corpus",
            logarithmic=True,
            where={"kind": ALL_KINDS},
        ),
        Plot(
            "position_times",
            f"Microseconds to make a patch, {COMPARED} of the bytes equal",
            PlotKind.HEAT,
            "position_cells",
            x="kind",
            y="encode_us",
            series="patcher",
            panel="corpus",
            logarithmic=True,
            where=at_similarity,
        ),
        Plot(
            "position_places",
            "Where the changes of similar real pairs are",
            PlotKind.BARS,
            "position_places",
            x="place",
            y="similar",
            panel="corpus",
        ),
        Plot(
            "position_parts",
            "Changed bytes of similar real pairs along the page",
            PlotKind.LINES,
            "position_parts",
            x="offset",
            y="similar",
            series="corpus",
        ),
        Plot(
            "position_patches",
            "Bytes a patch of real pairs, by where their changes are",
            PlotKind.HEAT,
            "position_patch_cells",
            x="place",
            y="bytes",
            series="patcher",
            panel="corpus",
            logarithmic=True,
        ),
    ]
