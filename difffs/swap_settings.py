"""What a swap area may be: its size and its priority."""

import os

from difffs.errors import UsageError
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.size import format_size, parse_size

SMALLEST_SIZE = 10 * PAGE_SIZE
"""mkswap's own lower bound."""

DEFAULT_SIZE = "4G"

_LARGEST_PRIORITY = 32767
_LARGEST_SHARE = 1000


def swap_size(text: str) -> int:
    """Return bytes: a size, or a share of this machine's memory (``50%``). ``UsageError``."""
    share = text.strip().removesuffix("%")
    if share == text.strip():
        size = parse_size(text)
    elif share.isascii() and share.isdecimal() and 1 <= int(share) <= _LARGEST_SHARE:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * int(share) // 100
    else:
        raise UsageError(f"{text}: a share of the memory is 1% to {_LARGEST_SHARE}%")
    if size < SMALLEST_SIZE:
        raise UsageError(f"{text} is too small for a swap area: at least 40K")
    if size > MAXIMUM_VOLUME_SIZE:
        raise UsageError(
            f"{text} is larger than a volume can be: at most {format_size(MAXIMUM_VOLUME_SIZE)}"
        )
    return size


def swap_priority(text: str) -> int:
    """Return a priority as swapon(8) takes it. ``UsageError``."""
    if not (text.isascii() and text.isdecimal() and int(text) <= _LARGEST_PRIORITY):
        raise UsageError(f"{text}: needs a number from 0 to {_LARGEST_PRIORITY}")
    return int(text)
