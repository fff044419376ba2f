"""Pages of kdump files that are compressed by zstd, and say what they are not."""

import tracemalloc

import pytest
import zstandard

from difffs.images import kdump_pages
from difffs.images.kdump_header import ZSTD

PAGE = 4096


def unzstd(data: bytes) -> bytes:
    return kdump_pages._UNPACK[ZSTD](data, PAGE)


def test_pages_with_and_without_their_length() -> None:
    page = b"page of a guest " * 256
    for with_length in (True, False):
        packer = zstandard.ZstdCompressor(write_content_size=with_length)
        assert unzstd(packer.compress(page)) == page


def test_a_page_that_holds_gigabytes() -> None:
    """They were made before anything looked at how many there are."""
    bomb = zstandard.compress(bytes(64 << 20))
    assert len(bomb) < 16 << 10
    tracemalloc.start()
    try:
        for _ in range(2):
            with pytest.raises(ValueError, match="length"):
                unzstd(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    without = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    with pytest.raises(zstandard.ZstdError):
        unzstd(without)
