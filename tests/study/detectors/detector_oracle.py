"""The detectors' features once more, in plain Python that reads like their publications."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import xxhash

PAGE = 4096
MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1
TRANSFORMS = 12


def nonzero(value: int) -> int:
    """A feature of 32 bits; 0 is none's."""
    return value & MASK32 or 1


def _joined(values: Sequence[int]) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


# -------------------------------------------------------------------------------- fixed blocks


def block_keys(page: bytes, places: Sequence[int], keys: int) -> list[int]:
    """Each key of the next blocks, its number the seed."""
    blocks = [page[place : place + 64] for place in places]
    each = len(blocks) // keys
    return [
        nonzero(xxhash.xxh3_64_intdigest(b"".join(blocks[key * each : (key + 1) * each]), seed=key))
        for key in range(keys)
    ]


# ------------------------------------------------------------------------------ super-features

POLYNOMIAL = 0xBFE6B8A5BF378D83
WINDOW = 48
ODESS_MASK = 0x0000400303410000


def splitmix64(seed: int) -> Iterator[int]:
    while True:
        seed = seed + 0x9E3779B97F4A7C15 & MASK64
        value = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & MASK64
        value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK64
        yield value ^ value >> 31


_numbers = splitmix64(0)
GEAR = [next(_numbers) for _ in range(256)]
RABIN_TRANSFORMS, GEAR_TRANSFORMS = [], []
for _ in range(TRANSFORMS):
    RABIN_TRANSFORMS.append(((next(_numbers) & MASK32) | 1, next(_numbers) & MASK32))
    GEAR_TRANSFORMS.append((next(_numbers) | 1, next(_numbers)))


def remainder(polynomial: int, divisor: int) -> int:
    """Of a division of polynomials over GF(2), whose coefficients are bits."""
    length = divisor.bit_length()
    while polynomial.bit_length() >= length:
        polynomial ^= divisor << polynomial.bit_length() - length
    return polynomial


def fingerprints(page: bytes) -> list[int]:
    """Of each window of 48 bytes, the window being the coefficients of a polynomial."""
    return [
        remainder(int.from_bytes(page[i : i + WINDOW], "big"), POLYNOMIAL)
        for i in range(PAGE - WINDOW + 1)
    ]


def grouped_features(features: Sequence[int], grouped: int) -> list[int]:
    return [
        nonzero(
            xxhash.xxh3_64_intdigest(_joined(features[i * grouped : (i + 1) * grouped]), seed=i)
        )
        for i in range(len(features) // grouped)
    ]


def ntransform(page: bytes, grouped: int) -> list[int]:
    windows = fingerprints(page)
    features = [
        max(factor * fingerprint + summand & MASK32 for fingerprint in windows)
        for factor, summand in RABIN_TRANSFORMS
    ]
    return grouped_features(features, grouped)


def odess(page: bytes, grouped: int) -> list[int]:
    sampled = []
    value = 0
    for byte in page:
        value = (value << 1) + GEAR[byte] & MASK64
        if not value & ODESS_MASK:
            sampled.append(value)
    if not sampled:
        return [0] * (TRANSFORMS // grouped)
    features = [
        max(factor * value + summand & MASK64 for value in sampled)
        for factor, summand in GEAR_TRANSFORMS
    ]
    return grouped_features(features, grouped)


def finesse(page: bytes) -> list[int]:
    windows = fingerprints(page)
    bounds = [part * PAGE // TRANSFORMS for part in range(TRANSFORMS + 1)]
    features = [max(windows[start : end - WINDOW + 1]) for start, end in pairwise(bounds)]
    groups = [sorted(features[i : i + 3], reverse=True) for i in range(0, TRANSFORMS, 3)]
    return grouped_features([group[rank] for rank in range(3) for group in groups], 4)


# ------------------------------------------------------------------------------------ min-hash

_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


def windows(page: bytes, words: int) -> Iterator[list[bytes]]:
    """The windows of so many words, but for those that say nothing."""
    parts = [page[i : i + 8] for i in range(0, PAGE, 8)]
    for i in range(len(parts) - words + 1):
        window = parts[i : i + words]
        pieces = [window[0][k : k + 1] for k in range(8)] if words == 1 else window
        if len(set(pieces)) > 1:
            yield window


def window_hash(window: Sequence[bytes]) -> int:
    value = 0
    for word, factor in zip(window, _FACTORS, strict=False):
        mixed = int.from_bytes(word, "little") * 0xBF58476D1CE4E5B9 & MASK64
        value += (mixed ^ mixed >> 32) * factor
    value &= MASK64
    value ^= value >> 32
    value = value * 0x94D049BB133111EB & MASK64
    return value ^ value >> 29 or 1


def min_hash(page: bytes, words: int, bins: int) -> list[int]:
    smallest: dict[int, int] = {}
    for window in windows(page, words):
        value = window_hash(window)
        smallest[value % bins] = min(value, smallest.get(value % bins, value))
    return [
        nonzero((smallest[which] * 0x9E3779B97F4A7C15 & MASK64) >> 32) if which in smallest else 0
        for which in range(bins)
    ]
