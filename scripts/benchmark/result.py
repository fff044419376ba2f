"""What was measured: figures of contenders, ratios of them, and the targets these are held to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured for one contender, a value a round: a cell of a table."""

    table: str
    subject: str
    contender: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure in proportion to another, and what it should be."""

    subject: str
    value: float
    goal: float | None = None
    at_most: bool = False
    """Whether the goal is an upper bound."""
    target: int | None = None
    """The number of the target in docs/performance.md."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal


@dataclass(slots=True)
class Part:
    """The outcome of one part."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    """What this host lacks, with the remedy."""
    notes: list[str] = field(default_factory=list)
    pages_verified: int = 0
    seconds: float = 0.0
    load: tuple[float, float] = (0.0, 0.0)
    """Load average (1 minute) when the part began and when it ended."""

    def add(
        self,
        table: str,
        subject: str,
        contender: str,
        unit: str,
        values: float | Sequence[float],
    ) -> None:
        """Note a figure."""
        many = tuple(values) if isinstance(values, Sequence) else (values,)
        self.figures.append(Figure(table, subject, contender, unit, many))

    def median(self, subject: str, contender: str) -> float | None:
        """Return a figure noted before, None when it was not measured."""
        for figure in self.figures:
            if figure.subject == subject and figure.contender == contender:
                return figure.median
        return None

    def compare(
        self,
        subject: str,
        value: float | None,
        peer: float | None,
        goal: float | None = None,
        *,
        at_most: bool = False,
        target: int | None = None,
    ) -> None:
        """Note value / peer, unless one of them was not measured."""
        if value is not None and peer:
            self.ratios.append(Ratio(subject, value / peer, goal, at_most, target))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "figures": [asdict(figure) | {"median": figure.median} for figure in self.figures],
            "ratios": [asdict(ratio) | {"met": ratio.met} for ratio in self.ratios],
            "absent": self.absent,
            "notes": self.notes,
            "pages_verified": self.pages_verified,
            "seconds": self.seconds,
            "load": list(self.load),
        }


def number(value: float) -> str:
    """Return a figure with three digits."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _columns(rows: list[list[str]], left: int) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (
            word.ljust(width) if at < left else word.rjust(width)
            for at, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _table_lines(figures: list[Figure]) -> list[str]:
    """One line a subject, one column a contender; units where they fit."""
    contenders = list(dict.fromkeys(figure.contender for figure in figures))
    cells = {(figure.subject, figure.contender): figure for figure in figures}
    subjects = list(dict.fromkeys(figure.subject for figure in figures))
    units = {
        subject: {f.unit for f in figures if f.subject == subject and f.unit}
        for subject in subjects
    }
    by_row = all(len(found) <= 1 for found in units.values())
    heads = []
    for name in contenders:
        of_column = {f.unit for f in figures if f.contender == name and f.unit}
        heads.append(name if by_row or len(of_column) != 1 else f"{name} [{of_column.pop()}]")
    rows = [[figures[0].table, *(["unit"] if by_row else []), *heads]]
    for subject in subjects:
        unit = ["".join(units[subject])] if by_row else []
        found = (cells.get((subject, name)) for name in contenders)
        values = ["" if figure is None else number(figure.median) for figure in found]
        rows.append([subject, *unit, *values])
    return _columns(rows, left=2 if by_row else 1)


def _ratio_lines(part: Part) -> list[str]:
    rows = [["ratio", "measured", "target", ""]]
    for ratio in part.ratios:
        goal = ""
        if ratio.goal is not None:
            goal = f"{'<=' if ratio.at_most else '>='} {ratio.goal:g}"
        verdict = {True: "met", False: "NOT MET", None: ""}[ratio.met]
        rows.append([ratio.subject, f"{ratio.value:.2f}", goal, verdict])
    return _columns(rows, left=1)


def render(part: Part) -> str:
    """Return a part as text."""
    load = f"load average {part.load[0]:.2f} before, {part.load[1]:.2f} after"
    lines = [f"{part.name} ({part.seconds:.0f} s, {load})"]
    for table in dict.fromkeys(figure.table for figure in part.figures):
        lines += ["", *_table_lines([f for f in part.figures if f.table == table])]
    if part.ratios:
        lines += ["", *_ratio_lines(part)]
    if part.pages_verified:
        lines += ["", f"  {part.pages_verified:,} pages read back and verified"]
    lines += [f"  absent: {name}: {why}" for name, why in part.absent.items()]
    lines += [f"  note: {note}" for note in part.notes]
    return "\n".join(lines)
