"""What a study says: sections of tables, plots drawn from those tables, conclusion and findings.

Plain data without any drawing: the terminal, JSON, CSV and the HTML report all show the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

Cell = str | int | float | None
"""None: not measured, shown as a dash."""

Row = Mapping[str, Cell]
"""Cells by their columns' keys."""

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")


class Unit(StrEnum):
    """How a column's values are shown; JSON and CSV hold them as they are."""

    TEXT = "text"
    COUNT = "count"
    """An integer, shown with thousands separators."""
    BYTES = "bytes"
    """An integer number of bytes, shown in full with thousands separators."""
    MEBIBYTES = "mebibytes"
    """Bytes, shown in MiB with one decimal."""
    MEAN_BYTES = "mean bytes"
    """Bytes a page, one decimal."""
    FACTOR = "factor"
    """Logical by stored bytes and other ratios, two decimals."""
    SHARE = "share"
    """0..1, shown in per cent with one decimal."""
    MICROSECONDS = "us"
    SECONDS = "s"
    RATE = "pages/s"
    MEBIBYTES_PER_SECOND = "MiB/s"
    """Bytes a second, shown in MiB with one decimal."""


def show(value: Cell, unit: Unit) -> str:
    """Return the text of a cell, the same wherever it is shown."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    match unit:
        case Unit.COUNT | Unit.BYTES | Unit.RATE:
            return f"{round(value):,}"
        case Unit.MEBIBYTES | Unit.MEBIBYTES_PER_SECOND:
            return f"{value / (1 << 20):,.1f}"
        case Unit.FACTOR:
            return f"{value:.2f}"
        case Unit.SHARE:
            return f"{value * 100:z.1f} %"  # no "-0.0 %"
        case Unit.MEAN_BYTES | Unit.MICROSECONDS | Unit.SECONDS:
            return f"{value:,.1f}"
        case Unit.TEXT:
            return str(value)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `key` in rows, JSON and CSV; `title` for readers."""

    key: str
    title: str
    unit: Unit = Unit.TEXT


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; `name` is its key in JSON and its CSV file's name, unique in the study."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    """How it was measured, what is left out: one or two sentences below the table."""
    detail: bool = False
    """Long, and there for a plot or for programs: a terminal only names it."""

    def column(self, key: str) -> Column:
        """The column of that key; KeyError when there is none."""
        for column in self.columns:
            if column.key == key:
                return column
        raise KeyError(key)

    def text(self, key: str, **where: Cell) -> str:
        """The shown text of a cell: column `key` of the first row that has all of `where`.

        Conclusions take their figures from here, so that each stands in the table as well.
        KeyError when no row fits.
        """
        return show(self.value(key, **where), self.column(key).unit)

    def value(self, key: str, **where: Cell) -> Cell:
        """The cell itself, as in text()."""
        for row in self.select(**where):
            return row.get(key)
        raise KeyError(f"{self.name}: no row with {where}")

    def select(self, **where: Cell) -> list[Row]:
        """The rows that have all of `where`."""
        return [
            row
            for row in self.rows
            if all(row.get(name) == wanted for name, wanted in where.items())
        ]


class PlotKind(StrEnum):
    """How a table is drawn."""

    BARS = "bars"
    """Groups of bars: `x` names the groups, `series` the bars of each."""
    STACK = "stack"
    """As BARS, stacked."""
    LINES = "lines"
    """`x` is a number; a line for each value of `series`."""
    POINTS = "points"
    """`x` and `y` are numbers; a named point for each row (`series` names it)."""
    HEAT = "heat"
    """`x` across, `series` down, `y` as colour and number."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing of one table. A panel for each value of `panel` (most often the corpus)."""

    name: str
    title: str
    kind: PlotKind
    table: str
    x: str
    y: str
    series: str | None = None
    panel: str | None = None
    logarithmic: bool = False
    """Whether the y axis (for POINTS: the x axis) is."""
    where: Mapping[str, Cell] = field(default_factory=dict)
    """Only rows with these cells are drawn."""


@dataclass(frozen=True, slots=True)
class Section:
    """The answer to one question."""

    number: int
    name: str
    title: str
    tables: Sequence[Table]
    plots: Sequence[Plot]
    conclusion: str
    """One short paragraph over all corpora, the answer first; each number in it is a cell of one of
    the tables, as shown there."""
    findings: Sequence[str] = ()
    """What matters of single corpora (or recordings), a paragraph each, with numbers as above."""
    absent: Sequence[str] = ()
    """What could not be measured on this host, each with its reason."""
    seconds: float = 0.0
    """Time that finding the answer took, as far as it was not in the cache."""

    def table(self, name: str) -> Table:
        """The table of that name; KeyError when there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)

    def unsupported_numbers(self) -> list[str]:
        """Numbers of conclusion and findings that stand in no table of the section (nor in a
        title)."""
        known: set[str] = set()
        for table in self.tables:
            texts = [table.title, table.note, *(column.title for column in table.columns)]
            for row in table.rows:
                texts += [show(row.get(c.key), c.unit) for c in table.columns]
            for text in texts:
                known.update(_NUMBER.findall(text))
        told = " ".join([self.conclusion, *self.findings])
        return [number for number in _NUMBER.findall(told) if number not in known]
