"""Words that conclusions are made of: ranges over corpora, lists, and who agrees with whom.

All figures are texts of cells, so that each stands in a table as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from difffs.study.result import Cell, Row, Table, Unit, show


def number(value: Cell) -> float:
    """Return a cell that holds a number."""
    assert isinstance(value, int | float), value
    return value


def corpora_of(table: Table) -> list[str]:
    """Return the corpora that have rows in the table, in its order."""
    return list(dict.fromkeys(str(row["corpus"]) for row in table.rows))


def listed(parts: Sequence[str], word: str = "and") -> str:
    """Return "a", "a and b", "a, b and c"."""
    return ", ".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def capitalised(text: str) -> str:
    """Return the text with a capital at its beginning, where a name is not written otherwise."""
    return f"{text[:1].upper()}{text[1:]}"


def span(table: Table, key: str, rows: Iterable[Row], named_by: str = "") -> str:
    """Return the least and the greatest of the rows' cells of a column, as the table shows them.

    "0.5 to 21.1 %", or, with the column `named_by`, "0.5 % (mixed-1) to 21.1 % (ident)"; a single
    text where there is one row, or where both are shown alike. Cells without a value are passed
    over; ValueError when none has one.
    """
    unit = table.column(key).unit
    known = [row for row in rows if row.get(key) is not None]
    least = min(known, key=lambda row: number(row[key]))
    most = max(known, key=lambda row: number(row[key]))
    first, last = show(least[key], unit), show(most[key], unit)
    if first == last:
        return first
    if named_by:
        return f"{first} ({least[named_by]}) to {last} ({most[named_by]})"
    if unit is Unit.SHARE:
        first = first.removesuffix(" %")
    return f"{first} to {last}"


def grouped(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Return {group: its names} of {name: group}."""
    found: dict[str, list[str]] = {}
    for name, group in groups.items():
        found.setdefault(group, []).append(name)
    return found


def agreed(said: Mapping[str, str]) -> str:
    """Return what is said of each corpus in one phrase.

    "lz4" where all corpora agree, otherwise "lz4 on ident and mixed-1, and zstd 1 on mixed-2".
    """
    groups = grouped(said)
    if len(groups) == 1:
        return next(iter(groups))
    parts = [f"{phrase} on {listed(names)}" for phrase, names in groups.items()]
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def where(chosen: Sequence[str], corpora: Sequence[str]) -> str:
    """Return on which of the corpora something holds, with a space in front.

    " on every corpus", " on ident and mixed-1 only", " on no corpus"; with one corpus and where it
    holds, nothing.
    """
    if not chosen:
        return " on no corpus"
    if len(chosen) < len(corpora):
        return f" on {listed(chosen)} only"
    return " on every corpus" if len(corpora) > 1 else ""
