"""Ranges, lists, and who agrees with whom."""

import pytest

from difffs.study.result import Column, Table, Unit
from difffs.study.wording import agreed, capitalised, corpora_of, grouped, listed, span, where

TABLE = Table(
    "sizes",
    "Sizes",
    [
        Column("corpus", "corpus"),
        Column("codec", "codec"),
        Column("share", "saved", Unit.SHARE),
        Column("bytes", "bytes", Unit.BYTES),
    ],
    [
        {"corpus": "ident", "codec": "lz4", "share": 0.2114, "bytes": 2000},
        {"corpus": "mixed", "codec": "lz4", "share": -0.005, "bytes": None},
        {"corpus": "mixed", "codec": "zstd 1", "share": 0.2111, "bytes": 1000},
    ],
)


def test_a_range_goes_from_the_least_to_the_greatest() -> None:
    assert span(TABLE, "share", TABLE.rows) == "-0.5 to 21.1 %"
    assert span(TABLE, "share", TABLE.rows, "corpus") == "-0.5 % (mixed) to 21.1 % (ident)"
    assert span(TABLE, "bytes", TABLE.rows) == "1,000 to 2,000"
    assert span(TABLE, "bytes", TABLE.rows, "codec") == "1,000 (zstd 1) to 2,000 (lz4)"


def test_one_text_is_no_range() -> None:
    assert span(TABLE, "share", TABLE.select(codec="zstd 1"), "corpus") == "21.1 %"
    assert span(TABLE, "share", [TABLE.rows[0], TABLE.rows[2]], "corpus") == "21.1 %"
    assert span(TABLE, "bytes", TABLE.select(codec="lz4")) == "2,000", "one cell is empty"


def test_there_is_no_range_of_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        span(TABLE, "bytes", TABLE.select(corpus="mixed", codec="lz4"))


def test_corpora_are_in_the_tables_order() -> None:
    assert corpora_of(TABLE) == ["ident", "mixed"]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")],
)
def test_lists(parts: list[str], expected: str) -> None:
    assert listed(parts, "or") == expected
    assert listed(parts) == expected.replace("or", "and")


def test_only_the_first_letter_is_made_a_capital() -> None:
    assert capitalised("the BWT") == "The BWT"
    assert capitalised("93.8 % of it") == "93.8 % of it"
    assert capitalised("") == ""


def test_corpora_agree_or_are_named() -> None:
    assert agreed({"a": "lz4"}) == agreed({"a": "lz4", "b": "lz4"}) == "lz4"
    assert agreed({"a": "lz4", "b": "zstd"}) == "lz4 on a, and zstd on b"
    several = {"a": "x", "b": "y", "c": "x", "d": "z"}
    assert grouped(several) == {"x": ["a", "c"], "y": ["b"], "z": ["d"]}
    assert agreed(several) == "x on a and c, y on b, and z on d"


@pytest.mark.parametrize(
    ("chosen", "corpora", "expected"),
    [
        (["a"], ["a"], ""),
        ([], ["a"], " on no corpus"),
        (["a", "b"], ["a", "b"], " on every corpus"),
        (["b"], ["a", "b"], " on b only"),
        (["a", "c"], ["a", "b", "c"], " on a and c only"),
    ],
)
def test_where_something_holds(chosen: list[str], corpora: list[str], expected: str) -> None:
    assert where(chosen, corpora) == expected
