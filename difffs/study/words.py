"""The 8-byte words of pages, and which of them look like addresses."""

from __future__ import annotations

import numpy
from numpy.typing import NDArray

from difffs.page import PAGE_SIZE

Pages = NDArray[numpy.uint8]
"""A row of 4,096 bytes for each page."""

WORD_BYTES = 8
WORDS = PAGE_SIZE // WORD_BYTES

_KERNEL_BITS = 0xFFFF
"""Upper 16 bits of a kernel's canonical address."""
_ERRORS = 0xFFFF_FFFF_FFFF_F000
"""From here on: small negative numbers and error codes, not addresses."""
_LOWEST_USER_BYTE = 0x55
"""Programs, heaps, libraries and stacks lie at 0x55..., 0x7f... on x86-64, at 0xaa..., 0xff... on
arm64: the sixth byte of an address that has two zero bytes above it."""


def words_of(pages: Pages) -> NDArray[numpy.uint64]:
    """Return the aligned little-endian words, a row of 512 for each page."""
    return numpy.ascontiguousarray(pages).view("<u8")


def are_addresses(words: NDArray[numpy.uint64]) -> NDArray[numpy.bool_]:
    """Return which words look like addresses of a 64-bit kernel or of its processes."""
    top = words >> numpy.uint64(48)
    kernel = (top == _KERNEL_BITS) & (words < numpy.uint64(_ERRORS))
    sixth = (words >> numpy.uint64(40)) & numpy.uint64(0xFF)
    user = (top == 0) & (sixth >= _LOWEST_USER_BYTE)
    either: NDArray[numpy.bool_] = kernel | user
    return either
