"""What holds for every section: checks that their tests share."""

from collections.abc import Collection

from difffs.study.report.plots import draw
from difffs.study.result import Cell, Section, Table

MOST_WORDS = 140
MOST_WORDS_OF_A_FINDING = 80


def check_words(section: Section, findings: int) -> None:
    """The conclusion is short, has so many findings, and all have only figures of its tables."""
    assert section.unsupported_numbers() == []
    assert len(section.findings) == findings
    assert 0 < len(section.conclusion.split()) <= MOST_WORDS
    for text in [section.conclusion, *section.findings]:
        assert text.endswith(".")
        assert text == " ".join(text.split())
        assert ".." not in text
    for finding in section.findings:
        assert len(finding.split()) <= MOST_WORDS_OF_A_FINDING


def check_plots(section: Section) -> None:
    """Each plot is drawn from columns that are there, of rows that have numbers, and is drawn."""
    assert section.plots
    for plot in section.plots:
        table = section.table(plot.table)
        for key in (plot.x, plot.y, plot.series, plot.panel, *plot.where):
            assert key is None or table.column(key)
        drawn = table.select(**plot.where)
        assert any(isinstance(row[plot.y], int | float) for row in drawn), plot.name
        assert draw(plot, table).startswith("<svg")


def check_cells(section: Section) -> None:
    """Each row has a cell for each column and no other."""
    for table in section.tables:
        for row in table.rows:
            assert set(row) == {column.key for column in table.columns}, table.name


def check_corpora(section: Section, corpora: Collection[str]) -> None:
    """Each table has rows of each corpus and of no other, with a cell for each column."""
    assert section.tables
    for table in section.tables:
        assert {row["corpus"] for row in table.rows} == set(corpora), table.name
    check_cells(section)


def numbers(table: Table, key: str, **where: Cell) -> list[float]:
    """The numbers of a column in the rows that have all of `where`; there is at least one."""
    found = []
    for row in table.select(**where):
        value = row[key]
        assert isinstance(value, int | float)
        found.append(value)
    assert found
    return found
