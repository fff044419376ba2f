"""Merging arrays of hashes of any number of images, one range of hashes after the other: what is in
memory is a range, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from difffs.study.stored_array import Array, ArrayLike, length, opened

RANGE_BYTES = 32 << 20
"""Of hashes that are merged at once: about, as hashes are spread evenly."""

Flags = NDArray[numpy.bool_]


def _range_bits(entries: int, item_bytes: int) -> int:
    return (max(1, entries * item_bytes // RANGE_BYTES) - 1).bit_length()


def count_distinct(arrays: Sequence[ArrayLike]) -> int:
    """Return how many different 64-bit hashes there are in arrays each of which is sorted."""
    bits = _range_bits(sum(map(length, arrays)), 8)
    distinct = 0
    for which in range(1 << bits):
        parts = [_between(opened(array), which, bits) for array in arrays]
        merged = numpy.concatenate([numpy.empty(0, "<u8"), *parts])
        # Timsort: it finds the sorted parts, and merges them pairwise
        merged.sort(kind="stable")
        distinct += bool(len(merged)) + int(numpy.count_nonzero(merged[1:] != merged[:-1]))
    return distinct


def _between(array: Array, which: int, bits: int) -> Array:
    """A copy of the part of a sorted array whose upper `bits` bits are `which`."""
    bounds = [number << (64 - bits) for number in (which, which + 1)]
    first, stop = (
        len(array) if bound >> 64 else int(numpy.searchsorted(array, numpy.uint64(bound)))
        for bound in bounds
    )
    return array[first:stop].copy()


def first_occurrences(
    arrays: Sequence[ArrayLike], column: int | None = None, chosen: Flags | None = None
) -> Flags:
    """Return for each entry of all arrays, in their order, whether its hash is in no earlier one.

    Hashes are unsigned integers, `column` says which of several an entry has. Where `chosen` is
    given only those entries count, and the others are no first occurrence.
    """
    first = numpy.zeros(sum(map(length, arrays)), dtype=bool)
    bits = _range_bits(len(first), 16)  # a hash, and the number of the entry
    for which in range(1 << bits):
        hashes, numbers = [], []
        start = 0
        for array in arrays:
            every = opened(array) if column is None else opened(array)[:, column]
            inside = numpy.ones(len(every), dtype=bool)
            if bits:
                inside &= every >> every.dtype.type(8 * every.itemsize - bits) == which
            if chosen is not None:
                inside &= chosen[start : start + len(every)]
            (found,) = numpy.nonzero(inside)
            hashes.append(every[found])
            numbers.append(found + start)
            start += len(every)
        if hashes:
            _values, places = numpy.unique(numpy.concatenate(hashes), return_index=True)
            first[numpy.concatenate(numbers)[places]] = True
    return first
