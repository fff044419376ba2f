"""Sections as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from difffs.study.result import Section, Table, Unit, show

_LEFT = (Unit.TEXT,)


def render_section(section: Section, columns: int = 100) -> str:
    """Return title, conclusion, findings, tables and what is absent; lines of `columns` at most, if
    tables are not wider."""
    heading = f"{section.number}. {section.title}"
    parts = [f"{heading}\n{'=' * len(heading)}", _wrapped(section.conclusion, columns)]
    if section.findings:
        parts.append("\n".join(_item(finding, columns) for finding in section.findings))
    parts += [render_table(table, columns) for table in section.tables]
    if section.absent:
        parts.append("Not measured here:\n" + "\n".join(f"  {line}" for line in section.absent))
    return "\n\n".join(parts)


def render_table(table: Table, columns: int = 100) -> str:
    """Return a table with its title and note. A corpus that repeats is shown once.

    Of a detail only the title: who wants it reads the report, the CSV or the JSON.
    """
    if table.detail:
        return _wrapped(
            f"{table.title}: {len(table.rows):,} rows, as {table.name} in --report and --json",
            columns,
        )
    texts = [[show(row.get(c.key), c.unit) for c in table.columns] for row in table.rows]
    titles = [column.title for column in table.columns]
    widths = [
        max([len(_longest_word(title)), *(len(row[i]) for row in texts)])
        for i, title in enumerate(titles)
    ]
    lines = [f"{table.title}", ""]
    lines += _heading(table, titles, widths)
    before = None
    for row in texts:
        first = row[0]
        shown = ["" if first == before and table.columns[0].key == "corpus" else first, *row[1:]]
        before = first
        lines.append(_line(table, shown, widths))
    if table.note:
        lines += ["", _wrapped(table.note, columns)]
    return "\n".join(lines)


def _longest_word(title: str) -> str:
    return max(title.split(" "), key=len)


def _heading(table: Table, titles: list[str], widths: list[int]) -> Iterator[str]:
    wrapped = [
        textwrap.wrap(title, max(width, 1)) or [""]
        for title, width in zip(titles, widths, strict=True)
    ]
    height = max(len(lines) for lines in wrapped)
    for level in range(height):
        cells = [
            lines[level - height + len(lines)] if level >= height - len(lines) else ""
            for lines in wrapped
        ]
        yield _line(table, cells, widths)
    yield "  ".join("-" * width for width in widths)


def _line(table: Table, cells: list[str], widths: list[int]) -> str:
    return "  ".join(
        cell.ljust(width) if column.unit in _LEFT else cell.rjust(width)
        for column, cell, width in zip(table.columns, cells, widths, strict=True)
    ).rstrip()


def _item(text: str, columns: int) -> str:
    return textwrap.fill(text, columns, initial_indent="  - ", subsequent_indent="    ")


def _wrapped(text: str, columns: int) -> str:
    return textwrap.fill(text, columns)
