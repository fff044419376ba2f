"""3. Does it matter where a page's changes are, and where are they in real pages?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from difffs.study import change_tables, changes, difference_tables, differences
from difffs.study.change_tables import ALL_KINDS, COMPARED, REAL_KINDS
from difffs.study.context import Context
from difffs.study.difference_tables import ALL, SHORT_RUNS
from difffs.study.differences import Place, Word
from difffs.study.patchers import PATCHERS
from difffs.study.result import Cell, Plot, PlotKind, Section, Table

NUMBER = 3
NAME = "positions"
TITLE = "Where the changes are"

_CHANGED_OF_SAMPLE = 10
"""One in so many pages of the sample is changed, in 35 ways, and patched by every patcher."""

_MATTERS = 1.5
"""The place matters to a patcher whose patches differ by this factor."""

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
    conclusion = " ".join(
        _about_corpus(corpus.name, kinds, similarity, places, runs, parts, words, patches)
        for corpus in context.corpora
    )
    return Section(NUMBER, NAME, TITLE, tables, _plots(), conclusion)


def _about_corpus(
    corpus: str,
    kinds: Table,
    similarity: Table,
    places: Table,
    runs: Table,
    parts: Table,
    words: Table,
    patches: Table,
) -> str:
    sentences = []
    if any(row["corpus"] == corpus for row in kinds.rows):
        sentences += _about_kinds(corpus, kinds)
    if any(row["corpus"] == corpus for row in similarity.rows):
        sentences += _about_pairs(corpus, similarity, places)
        sentences += _about_patches(corpus, patches)
    if any(row["corpus"] == corpus for row in runs.rows):
        sentences += _about_similar_pairs(corpus, runs, parts, words)
    if not sentences:
        return f"On {corpus} there was nothing to look at."
    text = " ".join(sentences)
    return f"On {corpus}: {text[0].lower()}{text[1:]}"


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


def _about_kinds(corpus: str, kinds: Table) -> list[str]:
    def ratio(patcher: str) -> float:
        return _number(kinds.value("ratio", corpus=corpus, patcher=patcher))

    def extremes(patcher: str) -> str:
        least, most = (
            str(kinds.value(key, corpus=corpus, patcher=patcher)) for key in ("least", "most")
        )
        return (
            f"{patcher} ({kinds.text(least, corpus=corpus, patcher=patcher)} bytes for a change"
            f" {_AT[least]}, {kinds.text(most, corpus=corpus, patcher=patcher)} for one"
            f" {_AT[most]}: a factor of {kinds.text('ratio', corpus=corpus, patcher=patcher)})"
        )

    calm, touchy = min(PATCHERS, key=ratio), max(PATCHERS, key=ratio)
    if ratio(calm) >= _MATTERS:
        judgement = "to every patcher"
    elif ratio(touchy) >= _MATTERS:
        judgement = "to some patchers"
    else:
        judgement = "little to any patcher"
    pieces = max(
        PATCHERS,
        key=lambda name: _number(kinds.value("ratio_of_pieces", corpus=corpus, patcher=name)),
    )
    dearest = _grouped(
        {patcher: str(kinds.value("most", corpus=corpus, patcher=patcher)) for patcher in PATCHERS}
    )
    costs = [
        f"changes {_AT[kind]} cost most with {_listed(patchers)}"
        for kind, patchers in dearest.items()
    ]
    winners = _grouped({kind.value: _smallest(corpus, kinds, kind) for kind in REAL_KINDS})
    if len(winners) == 1:
        best = f"{next(iter(winners))} makes the smallest patches wherever the changes are."
    else:
        made = [
            f"{winner} for a change {_listed([_AT[kind] for kind in won])}"
            for winner, won in winners.items()
        ]
        best = f"The smallest patches are made by {'; by '.join(made)}."
    return [
        f"how as many changed bytes are spread over a page matters {judgement}, least to"
        f" {extremes(calm)} and most to {extremes(touchy)}.",
        f"Whether they are in one piece at the end, at the start or elsewhere makes a factor of"
        f" {kinds.text('ratio_of_pieces', corpus=corpus, patcher=pieces)} at most, with {pieces}.",
        f"Of all kinds {'; '.join(costs)}.",
        best,
    ]


def _grouped(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """{group: its names} of {name: group}."""
    found: dict[str, list[str]] = {}
    for name, group in groups.items():
        found.setdefault(group, []).append(name)
    return found


def _smallest(corpus: str, kinds: Table, kind: changes.Kind) -> str:
    return min(
        PATCHERS,
        key=lambda patcher: _number(kinds.value(kind.value, corpus=corpus, patcher=patcher)),
    )


def _about_pairs(corpus: str, similarity: Table, places: Table) -> list[str]:
    def share(place: Place) -> float:
        return _number(places.value("share", corpus=corpus, place=place.value))

    ranked = sorted(Place, key=share, reverse=True)
    named = [
        f"{_AT[place]} in {places.text('share', corpus=corpus, place=place.value)}"
        for place in ranked
        if share(place) > 0
    ]
    better = similarity.text("better_shifted", corpus=corpus, equal=ALL)
    sentences = [
        f"Real pairs differ {_listed(named)} of all; {better} are more alike at another distance"
        f" than at equal offsets.",
    ]
    if any(row["corpus"] == corpus and row["equal"] == "similar" for row in similarity.rows):
        similar, changed, runs = (
            similarity.text(key, corpus=corpus, equal="similar")
            for key in ("share", "changed", "runs")
        )
        sentences.append(
            f"Similar at equal offsets are {similar} of the pairs, with {changed} bytes changed in"
            f" {runs} runs."
        )
    return sentences


def _about_similar_pairs(corpus: str, runs: Table, parts: Table, words: Table) -> list[str]:
    every = [row for row in parts.rows if row["corpus"] == corpus]
    most = max(every, key=lambda row: _number(row["similar"]))
    least = min(every, key=lambda row: _number(row["similar"]))
    bounds = (
        f"{parts.text('similar', corpus=corpus, offset=most['offset'])} of them in the"
        f" {differences.PART_BYTES} bytes from offset"
        f" {parts.text('offset', corpus=corpus, offset=most['offset'])} and"
        f" {parts.text('similar', corpus=corpus, offset=least['offset'])} in those from offset"
        f" {parts.text('offset', corpus=corpus, offset=least['offset'])}"
    )
    if _number(most["similar"]) < _EVEN * _number(least["similar"]):
        spread = "spread evenly over the page"
    elif most["offset"] == 0:
        spread = "most often at the page's start"
    elif most is every[-1]:
        spread = "most often at the page's end"
    else:
        spread = "not spread evenly over the page"
    addresses = [words.text("similar", corpus=corpus, word=w.value) for w in (Word.NEAR, Word.FAR)]
    return [
        f"In similar pairs the changes are {spread}: {bounds}.",
        f"Of the runs, {runs.text('share', corpus=corpus, length=SHORT_RUNS)} have {SHORT_RUNS}"
        f" bytes, and with them {runs.text('bytes', corpus=corpus, length=SHORT_RUNS)} of the"
        f" changed bytes; {runs.text('aligned', corpus=corpus, length=ALL)} begin at a multiple of"
        f" 8.",
        f"Of the changed words {addresses[0]} are addresses that change in their lower half and"
        f" {addresses[1]} other addresses.",
    ]


def _about_patches(corpus: str, patches: Table) -> list[str]:
    def mean(patcher: str) -> float:
        return _number(patches.value(patcher, corpus=corpus, place=ALL))

    least, most = min(PATCHERS, key=mean), max(PATCHERS, key=mean)
    usual = "zstd 1"
    own = f", {patches.text(usual, corpus=corpus, place=ALL)} with {usual}"
    return [
        f"The mean patch of a real pair takes {patches.text(least, corpus=corpus, place=ALL)} bytes"
        f" with {least}{own if usual not in (least, most) else ''} and"
        f" {patches.text(most, corpus=corpus, place=ALL)} with {most}."
    ]


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _number(value: Cell) -> float:
    assert isinstance(value, int | float)
    return value


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
