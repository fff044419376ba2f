"""Tables of real pairs: how much of them differs, where, and what patches make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from difffs.page import PAGE_SIZE
from difffs.study import changes, differences
from difffs.study.cache import Result
from difffs.study.change_tables import percent
from difffs.study.changes import COLUMNS
from difffs.study.differences import EQUAL_SHARES, RUN_LENGTHS, SHORT_RUN, SIMILAR, Place, Word
from difffs.study.result import Cell, Column, Table, Unit

ALL = "all"
"""All pairs, all runs."""

SHORT_RUNS = f"up to {SHORT_RUN}"


def _equal_class(number: int) -> str:
    lower, upper = EQUAL_SHARES[number], EQUAL_SHARES[number + 1]
    if number == 0:
        return f"below {percent(upper)}"
    if number == len(EQUAL_SHARES) - 2:
        return f"{percent(lower)} and more"
    return f"{lower * 100:.0f} to {percent(upper)}"


_EVERY = range(len(EQUAL_SHARES) - 1)
_SIMILAR = range(SIMILAR, len(EQUAL_SHARES) - 1)


def _sum(result: Result, classes: Sequence[int], place: Place | None = None) -> Result | None:
    """The sums of all pairs in these classes by equal bytes (at that place); None without any."""
    cells = [
        cell
        for cell in result["cells"]
        if cell["similarity"] in classes and place in (None, cell["place"])
    ]
    return differences.add_up(cells) if cells else None


def similarity_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        groups: list[tuple[str, Result | None]] = [
            (_equal_class(number), _sum(result, [number])) for number in _EVERY
        ]
        groups += [("similar", _sum(result, _SIMILAR)), (ALL, _sum(result, _EVERY))]
        for name, sums in groups:
            if sums is not None:
                count = sums["pairs"]
                rows.append(
                    {
                        "corpus": corpus,
                        "equal": name,
                        "pairs": count,
                        "share": count / result["pairs"],
                        "changed": sums["changed"] / count,
                        "runs": sum(sums["runs"]) / count,
                        "run_bytes": sums["changed"] / sum(sums["runs"]),
                        "better_shifted": sums["better_shifted"] / count,
                        "patch": sums["patches"]["zstd 1"] / count,
                        "alone": sums["patches"][changes.WITHOUT_BASE] / count,
                    }
                )
    return Table(
        "position_pairs",
        "Real pairs by the share of bytes that are equal at equal offsets",
        [
            Column("corpus", "corpus"),
            Column("equal", "equal bytes"),
            Column("pairs", "pairs", Unit.COUNT),
            Column("share", "of pairs", Unit.SHARE),
            Column("changed", "bytes changed", Unit.MEAN_BYTES),
            Column("runs", "runs of changes", Unit.MEAN_BYTES),
            Column("run_bytes", "bytes a run", Unit.MEAN_BYTES),
            Column("better_shifted", "better shifted", Unit.SHARE),
            Column("patch", "patch, zstd 1", Unit.MEAN_BYTES),
            Column("alone", "alone, zstd 1", Unit.MEAN_BYTES),
        ],
        rows,
        f"Pairs that the product's sketch proposes while it imports the corpus, a sample; similar"
        f" are those of which at least {percent(EQUAL_SHARES[SIMILAR])} are equal. Better shifted:"
        f" more bytes are equal at one other distance. That is the one at which most windows of"
        f" {differences.WINDOW_BYTES} bytes stand in the base that it has once only. The sketch"
        f" looks at windows at multiples of 8: pairs with other shifts are seldom proposed.",
    )


def place_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        similar = _sum(result, _SIMILAR)
        for place in Place:
            sums = _sum(result, _EVERY, place)
            inside = _sum(result, _SIMILAR, place)
            count = sums["pairs"] if sums else 0
            rows.append(
                {
                    "corpus": corpus,
                    "place": place.value,
                    "pairs": count,
                    "share": count / max(1, result["pairs"]),
                    "similar": (inside["pairs"] if inside else 0) / similar["pairs"]
                    if similar
                    else None,
                    "changed": sums["changed"] / count if sums else None,
                    "runs": sum(sums["runs"]) / count if sums else None,
                }
            )
    return Table(
        "position_places",
        "Where the changes of real pairs are",
        [
            Column("corpus", "corpus"),
            Column("place", "changed at"),
            Column("pairs", "pairs", Unit.COUNT),
            Column("share", "of pairs", Unit.SHARE),
            Column("similar", "of similar pairs", Unit.SHARE),
            Column("changed", "bytes changed", Unit.MEAN_BYTES),
            Column("runs", "runs of changes", Unit.MEAN_BYTES),
        ],
        rows,
        f"The first that fits. Shift: at one other distance more bytes are equal, or most of the"
        f" changed ones are, in runs of {differences.WINDOW_BYTES} or more. End, start, one run: a"
        f" piece that holds at least {percent(differences.PIECE_SHARE)} of the changed bytes ends"
        f" in the page's last {differences.EDGE_BYTES} bytes, begins in its first"
        f" {differences.EDGE_BYTES}, or lies elsewhere; every second byte of it is changed, and it"
        f" has at most {differences.LONGEST_PIECE:,} bytes. Pointers: most changed words are"
        f" addresses before and after. Bytes: most changed bytes are in runs of {SHORT_RUN} or"
        f" less. Other: long runs in several places.",
    )


def _length_class(number: int) -> str:
    first, last = RUN_LENGTHS[number], RUN_LENGTHS[number + 1] - 1
    if last == PAGE_SIZE:
        return f"{first} and more"
    return f"{first}" if first == last else f"{first} to {last}"


def run_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        sums = _sum(result, _SIMILAR)
        if sums is None:
            continue
        runs, size, aligned = sums["runs"], sums["run_bytes"], sums["aligned_runs"]
        groups = [(_length_class(i), [i]) for i in range(len(runs))]
        short = [i for i in range(len(runs)) if RUN_LENGTHS[i + 1] - 1 <= SHORT_RUN]
        groups += [(SHORT_RUNS, short), (ALL, list(range(len(runs))))]
        for name, classes in groups:
            count = sum(runs[i] for i in classes)
            rows.append(
                {
                    "corpus": corpus,
                    "length": name,
                    "runs": count,
                    "share": count / sum(runs),
                    "bytes": sum(size[i] for i in classes) / sum(size),
                    "aligned": sum(aligned[i] for i in classes) / count if count else None,
                }
            )
    return Table(
        "position_runs",
        "Runs of changed bytes in similar pairs, by their length",
        [
            Column("corpus", "corpus"),
            Column("length", "bytes"),
            Column("runs", "runs", Unit.COUNT),
            Column("share", "of runs", Unit.SHARE),
            Column("bytes", "of changed bytes", Unit.SHARE),
            Column("aligned", "begin at a multiple of 8", Unit.SHARE),
        ],
        rows,
        "A run ends at the first equal byte: a changed word can be several runs, or be longer than"
        " its run. One place in 8 is a multiple of 8, so that without any alignment 12.5 % of the"
        " runs would begin there.",
    )


def part_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        similar, every = _sum(result, _SIMILAR), _sum(result, _EVERY)
        if similar is not None and every is not None:
            rows += [
                {
                    "corpus": corpus,
                    "offset": part * differences.PART_BYTES,
                    "similar": similar["parts"][part] / similar["pairs"],
                    "all": every["parts"][part] / every["pairs"],
                }
                for part in range(differences.PARTS)
            ]
    return Table(
        "position_parts",
        f"Changed bytes by part of the page, {differences.PART_BYTES} bytes each",
        [
            Column("corpus", "corpus"),
            Column("offset", "from offset", Unit.COUNT),
            Column("similar", "changes of similar pairs", Unit.SHARE),
            Column("all", "of all pairs", Unit.SHARE),
        ],
        rows,
        "The mean over pairs of the share of a pair's changed bytes that lies in the part, so that"
        " each pair counts the same. Spread evenly, each part would have"
        f" {100 / differences.PARTS:.2f} %.",
    )


def word_table(pairs: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in pairs.items():
        similar, every = _sum(result, _SIMILAR), _sum(result, _EVERY)
        if similar is not None and every is not None:
            rows += [
                {
                    "corpus": corpus,
                    "word": word.value,
                    "similar": similar["words"][number] / sum(similar["words"]),
                    "all": every["words"][number] / sum(every["words"]),
                }
                for number, word in enumerate(Word)
            ]
    return Table(
        "position_words",
        "What the changed words of real pairs are",
        [
            Column("corpus", "corpus"),
            Column("word", "word"),
            Column("similar", "of similar pairs", Unit.SHARE),
            Column("all", "of all pairs", Unit.SHARE),
        ],
        rows,
        "Aligned words of 8 bytes with a changed byte; the first that fits. Addresses are those of"
        " a 64-bit kernel or of its processes, before and after the change; near, the upper four"
        " bytes are the same.",
    )


def _patch_rows(pairs: Mapping[str, Result]) -> list[tuple[str, str, int, dict[str, float]]]:
    """(corpus, place, pairs, mean bytes by patcher), and for each corpus all places together."""
    rows = []
    for corpus, result in pairs.items():
        groups = [(place.value, _sum(result, _EVERY, place)) for place in Place]
        for name, sums in [*groups, (ALL, _sum(result, _EVERY))]:
            if sums is not None:
                means = {c: sums["patches"][c] / sums["pairs"] for c in COLUMNS}
                rows.append((corpus, name, sums["pairs"], means))
    return rows


def patch_table(pairs: Mapping[str, Result]) -> Table:
    return Table(
        "position_patches",
        "Bytes a patch of real pairs, by where their changes are",
        [
            Column("corpus", "corpus"),
            Column("place", "changed at"),
            Column("pairs", "pairs", Unit.COUNT),
            *(Column(name, name, Unit.MEAN_BYTES) for name in COLUMNS),
        ],
        [
            {"corpus": corpus, "place": place, "pairs": count, **means}
            for corpus, place, count, means in _patch_rows(pairs)
        ],
        "The pairs and patches are those of question 2. Without the base's number; what has no"
        " patch shorter than the page counts as a page. Every patch was applied and the page"
        " compared.",
    )


def patch_cell_table(pairs: Mapping[str, Result]) -> Table:
    return Table(
        "position_patch_cells",
        "The same, a row for each place and patcher",
        [
            Column("corpus", "corpus"),
            Column("place", "changed at"),
            Column("patcher", "patcher"),
            Column("bytes", "bytes a patch", Unit.MEAN_BYTES),
        ],
        [
            {"corpus": corpus, "place": place, "patcher": patcher, "bytes": mean}
            for corpus, place, _count, means in _patch_rows(pairs)
            for patcher, mean in means.items()
        ],
        detail=True,
    )
