"""The page kernels once more, in plain Python that reads like their documentation."""

from collections.abc import Iterator
from struct import unpack

import lz4.block
import xxhash
import zstandard

PAGE = 4096
MASK = (1 << 64) - 1

FIXED_BLOCKS = (1088, 2880)
"""Where the two 64-byte blocks of the paper's sketch begin."""


def same_word(page: bytes) -> bytes | None:
    word = page[:8]
    return word if page == word * (PAGE // 8) else None


def digest(page: bytes) -> int:
    return xxhash.xxh3_64_intdigest(page)


def checksum(payload: bytes) -> int:
    return xxhash.xxh3_64_intdigest(payload) & 0xFFFF_FFFF


def _rotate_left(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MASK


def _mixed(word: int) -> int:
    value = word * 0x9E3779B97F4A7C15 & MASK
    return value ^ value >> 29


def _windows(page: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The 32 bytes at each multiple of 8, as four words."""
    words = unpack("<512Q", page)
    for i in range(len(words) - 3):
        yield words[i], words[i + 1], words[i + 2], words[i + 3]


def _window_hash(window: tuple[int, int, int, int]) -> int:
    a, b, c, d = (_mixed(word) for word in window)
    value = (a + _rotate_left(b, 13) + _rotate_left(c, 29) + _rotate_left(d, 47)) & MASK
    value = value * 0xBF58476D1CE4E5B9 & MASK
    return value ^ value >> 31


def _finished(value: int) -> int:
    value ^= value >> 32
    value = value * 0xD6E8FEB86659FD93 & MASK
    return (value ^ value >> 32) & 0xFFFF_FFFF


def min_hash(page: bytes) -> tuple[int, ...]:
    """The smallest hash of each of four bins; windows of one repeated word are left out."""
    smallest: dict[int, int] = {}
    for window in _windows(page):
        if len(set(window)) == 1:
            continue
        value = _window_hash(window)
        smallest[value % 4] = min(value, smallest.get(value % 4, value))
    return tuple(_finished(smallest[which]) for which in range(4) if which in smallest)


def fixed_blocks(page: bytes) -> tuple[int, ...]:
    """The hash of each block, its number the seed."""
    return tuple(
        xxhash.xxh3_64_intdigest(page[start : start + 64], seed=key) & 0xFFFF_FFFF
        for key, start in enumerate(FIXED_BLOCKS)
    )


# ------------------------------------------------------ codecs, as other people's packages do them


def _prefix(base: bytes | None) -> zstandard.ZstdCompressionDict | None:
    if base is None:
        return None
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def zstd_encode(page: bytes, base: bytes | None = None, level: int = 1) -> bytes:
    """A frame without magic number, content size, checksum and dictionary id."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=_prefix(base))
    return compressor.compress(page)


def zstd_decode(payload: bytes, base: bytes | None = None) -> bytes:
    decompressor = zstandard.ZstdDecompressor(
        dict_data=_prefix(base), format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    return decompressor.decompress(payload, max_output_size=PAGE)


def lz4_encode(page: bytes) -> bytes:
    block: bytes = lz4.block.compress(page, store_size=False)
    return block


def lz4_decode(payload: bytes) -> bytes:
    page: bytes = lz4.block.decompress(payload, uncompressed_size=PAGE)
    return page
