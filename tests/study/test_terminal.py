"""Sections as text."""

from dataclasses import replace

from difffs.study.result import Column, Section, Table, Unit
from difffs.study.terminal import render_section, render_table

TABLE = Table(
    "sizes",
    "Sizes",
    [
        Column("corpus", "corpus"),
        Column("codec", "codec"),
        Column("mean", "bytes a page", Unit.MEAN_BYTES),
        Column("pages", "pages", Unit.COUNT),
    ],
    [
        {"corpus": "one", "codec": "zstd 1", "mean": 1024.5, "pages": 1000},
        {"corpus": "one", "codec": "lz4", "mean": None, "pages": 12_345_678},
        {"corpus": "two", "codec": "lz4", "mean": 7, "pages": 0},
    ],
    "A note that says how it was measured and that is longer than fits into a line.",
)


def test_a_table_is_aligned_and_a_corpus_stands_once() -> None:
    assert render_table(TABLE, columns=60) == (
        "Sizes\n"
        "\n"
        "                bytes a\n"
        "corpus  codec      page       pages\n"
        "------  ------  -------  ----------\n"
        "one     zstd 1  1,024.5       1,000\n"
        "        lz4           -  12,345,678\n"
        "two     lz4         7.0           0\n"
        "\n"
        "A note that says how it was measured and that is longer than\n"
        "fits into a line."
    )


def test_a_first_column_that_is_no_corpus_is_repeated() -> None:
    columns = [Column("codec", "codec"), *TABLE.columns[2:]]
    table = replace(TABLE, columns=columns, rows=TABLE.rows[1:], note="")
    assert [line.split()[0] for line in render_table(table).splitlines()[-2:]] == ["lz4", "lz4"]


def test_of_a_detail_only_the_title_is_shown() -> None:
    text = render_table(replace(TABLE, detail=True))
    assert text == "Sizes: 3 rows, as sizes in --report and --json"


def test_a_table_without_rows_has_its_heading() -> None:
    lines = render_table(replace(TABLE, rows=[], note="")).splitlines()
    assert lines[-1] == "------  -----  -----  -----"


def test_a_section_has_all_its_parts_in_order() -> None:
    section = Section(
        3,
        "sizes",
        "How large?",
        [TABLE, replace(TABLE, title="Again")],
        [],
        "In one sentence that is broken where the line ends.",
        ["On one, a finding that takes two lines.", "Another."],
        ["zram: this kernel has none", "KSM: not root"],
    )
    text = render_section(section, columns=30)
    places = [
        text.index(part)
        for part in (
            "3. How large?\n=============\n\nIn one sentence that is broken\nwhere the line ends.",
            "\n\n  - On one, a finding that\n    takes two lines.\n  - Another.\n\n",
            "\n\nSizes\n",
            "\n\nAgain\n",
            "\n\nNot measured here:\n  zram: this kernel has none\n  KSM: not root",
        )
    ]
    assert places == sorted(places)
    assert "Not measured" not in render_section(replace(section, absent=()))
    assert "where the line ends.\n\nSizes\n" in render_section(
        replace(section, findings=()), columns=30
    )
