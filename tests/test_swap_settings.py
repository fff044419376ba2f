"""Sizes and priorities of swap areas."""

import os

import pytest

from difffs.errors import UsageError
from difffs.swap_settings import DEFAULT_SIZE, swap_priority, swap_size

MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("text", "size"),
    [("40K", 40 << 10), ("1.5G", 3 << 29), ("16T", 16 << 40), (DEFAULT_SIZE, 4 << 30)],
)
def test_sizes(text: str, size: int) -> None:
    assert swap_size(text) == size


@pytest.mark.parametrize(("text", "hundredths"), [("1%", 1), ("50%", 50), (" 200% ", 200)])
def test_shares_of_the_memory(text: str, hundredths: int) -> None:
    assert swap_size(text) == MEMORY * hundredths // 100


@pytest.mark.parametrize(
    "text", ["", "%", "0%", "1001%", "-5%", "1.5%", "5 %", "²%", "50%%", "39K", "16385G", "half"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        swap_size(text)


def test_priorities() -> None:
    assert [swap_priority(text) for text in ("0", "7", "32767")] == [0, 7, 32767]
    for text in ("", "-1", "32768", "1.0", "²", "high"):
        with pytest.raises(UsageError, match="from 0 to 32767"):
            swap_priority(text)
