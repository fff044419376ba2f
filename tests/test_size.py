"""Sizes in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.errors import UsageError
from difffs.size import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4k", 4096),
        ("4KiB", 4096),
        ("64M", 64 << 20),
        ("4G", 4 << 30),
        ("16T", 16 << 40),
        ("1.5 GiB", 3 << 29),
        (" 10 MB ", 10 << 20),
    ],
)
def test_parse(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "1 2", "4Gi4", "1e3"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 << 20, "10.0 MiB"),
        (1023 << 20, "1.00 GiB"),
        (4 << 30, "4.00 GiB"),
        (16 << 40, "16.0 TiB"),
    ],
)
def test_format(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1 << 62))
def test_formatting_keeps_three_digits(size: int) -> None:
    text = format_size(size)
    assert len(text) <= 8
    assert abs(parse_size(text) - size) <= size * 0.006
