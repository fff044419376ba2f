"""Tables of changed pages: what each patcher makes of each kind of change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from difffs.study import changes
from difffs.study.cache import Result
from difffs.study.changes import COLUMNS, SIMILARITIES, Kind
from difffs.study.patching import ROUNDS
from difffs.study.result import Cell, Column, Table, Unit

COMPARED_SIMILARITY = 0.95
"""Where the kinds of changes are compared."""

ALL_KINDS = "all"
"""The mean of all kinds of changes but the run of random bytes."""

REAL_KINDS = [kind for kind in Kind if kind is not Kind.RANDOM_RUN]

PIECES = (Kind.END, Kind.START, Kind.RUN)
"""Kinds of changes that lie in one piece of the page."""


def percent(share: float) -> str:
    """Return a share as tables name it."""
    return f"{share * 100:.0f} %"


COMPARED = percent(COMPARED_SIMILARITY)


def cell_table(changed: Mapping[str, Result]) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, result in changed.items():
        found = {(c["kind"], c["similarity"], c["patcher"]): c for c in result["cells"]}
        if not found:
            continue
        for similarity in SIMILARITIES:
            for patcher in COLUMNS:
                by_kind = {kind: found[kind, similarity, patcher] for kind in Kind}
                of_kinds: list[dict[str, Cell]] = [
                    {
                        "kind": kind.value,
                        "bytes": cell["bytes"] / result["pages"],
                        "encode_us": cell["encode_us"],
                        "decode_us": cell["decode_us"],
                    }
                    for kind, cell in by_kind.items()
                ]
                real = [cell for cell in of_kinds if cell["kind"] != Kind.RANDOM_RUN]
                of_kinds.append(
                    {"kind": ALL_KINDS}
                    | {key: _mean(real, key) for key in ("bytes", "encode_us", "decode_us")}
                )
                rows += [
                    {
                        "corpus": corpus,
                        "pages": result["pages"],
                        "similarity": percent(similarity),
                        "patcher": patcher,
                        **cell,
                    }
                    for cell in of_kinds
                ]
    return Table(
        "position_cells",
        "Patches of changed pages: every kind of change, similarity and patcher",
        [
            Column("corpus", "corpus"),
            Column("pages", "pages", Unit.COUNT),
            Column("similarity", "bytes that stay"),
            Column("patcher", "patcher"),
            Column("kind", "changed at"),
            Column("bytes", "bytes a patch", Unit.MEAN_BYTES),
            Column("encode_us", "encode us", Unit.MICROSECONDS),
            Column("decode_us", "decode us", Unit.MICROSECONDS),
        ],
        rows,
        "Without the base's number. Times are processor time of one thread.",
        detail=True,
    )


def _mean(cells: Sequence[Mapping[str, Cell]], key: str) -> float | None:
    values = [value for cell in cells if isinstance(value := cell[key], int | float)]
    return sum(values) / len(values) if values else None


def _patchers_of(cells: Table) -> list[tuple[str, str]]:
    """(corpus, patcher) in the order of tables."""
    return list(dict.fromkeys((str(row["corpus"]), str(row["patcher"])) for row in cells.rows))


def kind_table(changed: Mapping[str, Result], cells: Table) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, patcher in _patchers_of(cells):
        sizes = {
            kind.value: _number(
                cells.value(
                    "bytes",
                    corpus=corpus,
                    patcher=patcher,
                    kind=kind.value,
                    similarity=COMPARED,
                )
            )
            for kind in Kind
        }
        least = min(REAL_KINDS, key=lambda kind: sizes[kind])
        most = max(REAL_KINDS, key=lambda kind: sizes[kind])
        pieces = [sizes[kind] for kind in PIECES]
        rows.append(
            {
                "corpus": corpus,
                "pages": changed[corpus]["pages"],
                "patcher": patcher,
                **sizes,
                "least": least.value,
                "most": most.value,
                "ratio": sizes[most] / sizes[least],
                "ratio_of_pieces": max(pieces) / min(pieces),
            }
        )
    count = changes.changed_count(COMPARED_SIMILARITY)
    return Table(
        "position_kinds",
        f"Bytes a patch of pages of which {COMPARED} stay, by where the rest is",
        [
            Column("corpus", "corpus"),
            Column("pages", "pages", Unit.COUNT),
            Column("patcher", "patcher"),
            *(Column(kind.value, kind.value, Unit.MEAN_BYTES) for kind in Kind),
            Column("least", "least at"),
            Column("most", "most at"),
            Column("ratio", "most / least", Unit.FACTOR),
            Column("ratio_of_pieces", "of end, start, run", Unit.FACTOR),
        ],
        rows,
        f"Real, compressible pages of each corpus, the same in all columns, with exactly {count}"
        f" other bytes. They are those of another page of the corpus at the same offsets, in a"
        f" piece of which at least every second byte differs. Bytes: single ones, as frequent as in"
        f" another page. Pointers: the lower four bytes of aligned words, of addresses first, as"
        f" frequent as in the corpus's addresses. Shift: {count} bytes inserted, so that the page's"
        f" end falls off. The random run is left out of least and most.",
    )


def mean_table(cells: Table) -> Table:
    names = [percent(similarity) for similarity in SIMILARITIES]
    rows: list[dict[str, Cell]] = [
        {
            "corpus": corpus,
            "patcher": patcher,
            **{
                name: cells.value(
                    "bytes", corpus=corpus, patcher=patcher, kind=ALL_KINDS, similarity=name
                )
                for name in names
            },
        }
        for corpus, patcher in _patchers_of(cells)
    ]
    return Table(
        "position_similarities",
        "Bytes a patch by the share of bytes that stay",
        [
            Column("corpus", "corpus"),
            Column("patcher", "patcher"),
            *(Column(name, name, Unit.MEAN_BYTES) for name in names),
        ],
        rows,
        "The mean of all kinds of changes but the random run.",
    )


def time_table(cells: Table) -> Table:
    rows: list[dict[str, Cell]] = []
    for corpus, patcher in _patchers_of(cells):

        def value(key: str, kind: str, corpus: str = corpus, patcher: str = patcher) -> Cell:
            return cells.value(key, corpus=corpus, patcher=patcher, kind=kind, similarity=COMPARED)

        rows.append(
            {
                "corpus": corpus,
                "patcher": patcher,
                **{kind.value: value("encode_us", kind) for kind in Kind},
                "decode": value("decode_us", ALL_KINDS),
            }
        )
    return Table(
        "position_times",
        f"Microseconds to make such a patch ({COMPARED} stay), and to apply it",
        [
            Column("corpus", "corpus"),
            Column("patcher", "patcher"),
            *(Column(kind.value, kind.value, Unit.MICROSECONDS) for kind in Kind),
            Column("decode", "apply, any", Unit.MICROSECONDS),
        ],
        rows,
        "Processor time of one thread, all pages in one call (with bsdiff4, a call each), the"
        f" fastest of {ROUNDS} rounds (of slow patchers one). Every patch was applied and the page"
        " compared.",
    )


def _number(value: Cell) -> float:
    assert isinstance(value, int | float)
    return value
