"""The page: the unit of routing."""

PAGE_SIZE = 4096
"""Bytes of a page."""

MAXIMUM_VOLUME_SIZE = 16 << 40
"""Bytes: page numbers are 32 bits wide."""


def page_count(size: int) -> int:
    """Pages that `size` bytes take, the last one perhaps partly."""
    return -(-size // PAGE_SIZE)
