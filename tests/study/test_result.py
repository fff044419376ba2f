"""Cells, tables and the numbers of conclusions."""

from collections.abc import Sequence

import pytest

from difffs.study.result import Cell, Column, Section, Table, Unit, show

TABLE = Table(
    "sizes",
    "Sizes of groups of 16",
    [
        Column("corpus", "corpus"),
        Column("codec", "codec"),
        Column("stored", "stored MiB", Unit.MEBIBYTES),
        Column("share", "of all pages", Unit.SHARE),
    ],
    [
        {"corpus": "one", "codec": "zstd 19", "stored": 3 << 20, "share": 0.25},
        {"corpus": "one", "codec": "lz4", "stored": 1234 << 20, "share": None},
        {"corpus": "two", "codec": "lz4", "stored": 0, "share": 1},
    ],
    "The fastest of 3 rounds.",
)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, Unit.COUNT, "-"),
        (None, Unit.TEXT, "-"),
        ("zstd 1", Unit.TEXT, "zstd 1"),
        ("beyond", Unit.SECONDS, "beyond"),
        (7, Unit.TEXT, "7"),
        (1234567, Unit.COUNT, "1,234,567"),
        (1234567, Unit.BYTES, "1,234,567"),
        (99.6, Unit.RATE, "100"),
        (1 << 31, Unit.MEBIBYTES, "2,048.0"),
        (-52429, Unit.MEBIBYTES, "-0.1"),
        (5.949, Unit.FACTOR, "5.95"),
        (0.12345, Unit.SHARE, "12.3 %"),
        (-0.01, Unit.SHARE, "-1.0 %"),
        (1024.06, Unit.MEAN_BYTES, "1,024.1"),
        (0.04, Unit.MICROSECONDS, "0.0"),
        (12, Unit.SECONDS, "12.0"),
    ],
)
def test_a_cell_is_shown_by_its_unit(value: Cell, unit: Unit, text: str) -> None:
    assert show(value, unit) == text


def test_every_unit_shows_numbers() -> None:
    assert all(show(1, unit) for unit in Unit)


def test_a_cell_is_found_by_others_of_its_row() -> None:
    assert TABLE.text("stored", corpus="one", codec="lz4") == "1,234.0"
    assert TABLE.text("stored", codec="lz4") == "1,234.0", "the first that fits"
    assert TABLE.value("stored", corpus="two") == 0
    assert TABLE.text("share", corpus="one", codec="lz4") == "-"
    with pytest.raises(KeyError, match="sizes: no row"):
        TABLE.text("stored", corpus="three")
    with pytest.raises(KeyError):
        TABLE.text("factor", corpus="one")
    assert TABLE.column("share").unit is Unit.SHARE


def test_rows_are_selected_by_their_cells() -> None:
    assert TABLE.select(corpus="one") == TABLE.rows[:2]
    assert TABLE.select(corpus="two", codec="lz4") == TABLE.rows[2:]
    assert TABLE.select(corpus="three") == []
    assert TABLE.select() == TABLE.rows


def section(conclusion: str, findings: Sequence[str] = ()) -> Section:
    return Section(1, "sizes", "Sizes", [TABLE], [], conclusion, findings)


@pytest.mark.parametrize(
    ("conclusion", "unsupported"),
    [
        ("On one, lz4 stores 1,234.0 MiB.", []),
        ("25.0 % of the pages, 100.0 % on two.", []),
        ("zstd 19 in groups of 16, the fastest of 3.", []),
        ("No number at all.", []),
        ("Rounded once more: 1,234 MiB, 25 %.", ["1,234", "25"]),
        ("Twice as good: 2.5 times; 1,234.0.", ["2.5"]),
        ("The raw value is 0.25.", ["0.25"]),
    ],
)
def test_numbers_of_a_conclusion_stand_in_its_tables(
    conclusion: str, unsupported: list[str]
) -> None:
    assert section(conclusion).unsupported_numbers() == unsupported
    told = section("So it is.", ["On two it is 100.0 %.", conclusion])
    assert told.unsupported_numbers() == unsupported


def test_a_section_knows_its_tables_by_name() -> None:
    assert section("").table("sizes") is TABLE
    with pytest.raises(KeyError):
        section("").table("other")
