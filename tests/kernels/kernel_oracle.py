"""The page kernels once more, in plain Python that reads like their documentation."""

from array import array

import lz4.block
import xxhash
import zstandard

PAGE = 4096
MASK = (1 << 32) - 1

FIXED_BLOCKS = (1088, 2880)
"""Where the two 64-byte blocks of the paper's sketch begin."""


def same_word(page: bytes) -> bytes | None:
    word = page[:8]
    return word if page == word * (PAGE // 8) else None


def digest(page: bytes) -> int:
    return xxhash.xxh3_64_intdigest(page)


def checksum(payload: bytes) -> int:
    return xxhash.xxh3_64_intdigest(payload) & 0xFFFF_FFFF


def table_chunk(entries: list[int]) -> bytes:
    """A page table chunk as stored: 0, objects and lost, zeros, lost, then the entries."""
    objects = sum(value not in (0, 255) for value in entries)
    counts = [0, objects, entries.count(255), entries.count(254)]
    return array("I", [*counts, *entries]).tobytes()


def _mixed(word: bytes) -> int:
    low = int.from_bytes(word[:4], "little")
    high = int.from_bytes(word[4:], "little")
    value = (low * 0x9E3779B1 + high * 0x85EBCA77) & MASK
    return value ^ value >> 15


def _window_hash(window: list[int]) -> int:
    """Of four mixed words."""
    factors = (0xC2B2AE3D, 0x27D4EB2F, 0x165667B1, 0xD3A2646D)
    value = sum(word * factor for word, factor in zip(window, factors, strict=True)) & MASK
    value ^= value >> 15
    value = value * 0x2C1B3C6D & MASK
    return value ^ value >> 12


def _spread(value: int) -> int:
    value = value * 0x9E3779B1 & MASK
    value ^= value >> 16
    value = value * 0x85EBCA6B & MASK
    return value ^ value >> 13


def _smallest_windows(page: bytes) -> dict[int, tuple[int, int]]:
    """Bin to (smallest hash, where its window begins), over the 32-byte windows at each multiple
    of 8.

    Windows of one repeated word are left out.
    """
    words = [_mixed(page[i : i + 8]) for i in range(0, PAGE, 8)]
    smallest: dict[int, tuple[int, int]] = {}
    for i in range(len(words) - 3):
        window = words[i : i + 4]
        if len(set(window)) > 1:
            value = _window_hash(window)
            found = (value, 8 * i)
            smallest[value % 4] = min(found, smallest.get(value % 4, found))
    return smallest


def min_hash(page: bytes) -> tuple[int, ...]:
    """The smallest hash of each of four bins."""
    smallest = _smallest_windows(page)
    return tuple(_spread(smallest[which][0]) for which in range(4) if which in smallest)


def _common_prefix(one: bytes, other: bytes) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def common_run(page: bytes, base: bytes) -> int:
    """The longest run of equal bytes around a window that is the smallest of a bin in both."""
    here, there = _smallest_windows(page), _smallest_windows(base)
    runs = [0]
    for which in here.keys() & there.keys():
        (value, at), (other, place) = here[which], there[which]
        if value == other:
            runs.append(
                _common_prefix(page[:at][::-1], base[:place][::-1])
                + _common_prefix(page[at:], base[place:])
            )
    return max(runs)


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


def zstd_encode(
    page: bytes, base: bytes | None = None, level: int = 1, dictionary: bytes | None = None
) -> bytes:
    """A frame without magic number, content size, checksum and dictionary id."""
    trained = _prefix(base) if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=trained)
    return compressor.compress(page)


def zstd_decode(
    payload: bytes, base: bytes | None = None, dictionary: bytes | None = None
) -> bytes:
    trained = _prefix(base) if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
    decompressor = zstandard.ZstdDecompressor(
        dict_data=trained, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    return decompressor.decompress(payload, max_output_size=PAGE)


def lz4_encode(page: bytes, base: bytes = b"") -> bytes:
    block: bytes = lz4.block.compress(page, store_size=False, dict=base)
    return block


def lz4_decode(payload: bytes, base: bytes = b"") -> bytes:
    page: bytes = lz4.block.decompress(payload, uncompressed_size=PAGE, dict=base)
    return page


def domain_mask(domain: int) -> int:
    """What makes a domain's digests and features keys of their own: MurmurHash3's finalizer."""
    domain ^= domain >> 16
    domain = domain * 0x85EBCA6B & 0xFFFFFFFF
    domain ^= domain >> 13
    domain = domain * 0xC2B2AE35 & 0xFFFFFFFF
    return domain ^ domain >> 16
