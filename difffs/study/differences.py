"""How real pairs differ: where in the page, in runs of which length, in words of which kind.

Functions take pages and bases as arrays of rows of 4,096 bytes, a pair a row; no pair is equal.
Equal and changed are meant at equal offsets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.changes import COLUMNS, DENSITY
from difffs.study.corpus import Image
from difffs.study.pairs import Pair, sample_pairs
from difffs.study.patching import measure_patchers
from difffs.study.words import WORD_BYTES, Pages, are_addresses, words_of

DIFFERENCE_PASS_VERSION = 3

Flags = NDArray[numpy.bool_]
Numbers = NDArray[numpy.int64]

EQUAL_SHARES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Bounds of the classes of pairs by the share of equal bytes; the upper one belongs to the next."""
SIMILAR = 1
"""From this class on, with half of their bytes equal, pairs are called similar."""

RUN_LENGTHS = (1, 2, 3, 5, 9, 17, 65, 257, PAGE_SIZE + 1)
"""Bounds of the classes of runs by length in bytes."""

PART_BYTES = 256
PARTS = PAGE_SIZE // PART_BYTES

WINDOW_BYTES = 32
"""So many bytes in a row, equal at another offset, are no chance."""

EDGE_BYTES = 64
PIECE_SHARE = 0.9
LONGEST_PIECE = PAGE_SIZE * 3 // 4
SHORT_RUN = 8
MOST = 0.5


class Place(StrEnum):
    """Where most of a pair's changes are; the first that fits."""

    SHIFT = "shift"
    """At one other distance more bytes are equal than at equal offsets, or most changed bytes are,
    32 at least, in runs of 32 or more."""
    END = "end"
    """One piece (below) that ends in the page's last 64 bytes."""
    START = "start"
    """One piece that begins in its first 64 bytes."""
    RUN = "one run"
    """One piece elsewhere. A piece holds at least 90 % of the changed bytes, every second byte of
    it is changed, and it is no longer than three quarters of the page."""
    POINTERS = "pointers"
    """Most changed words are addresses before and after."""
    BYTES = "bytes"
    """Most changed bytes are in runs of 8 bytes or less."""
    OTHER = "other"
    """Long runs in several places."""


class Word(StrEnum):
    """What a changed aligned word is; the first that fits."""

    NEAR = "address, near"
    """An address before and after, the upper half the same."""
    FAR = "address, elsewhere"
    """An address before and after."""
    ZERO = "zero before or after"
    NUMBER = "number below 4 Gi"
    """Before and after."""
    OTHER = "other"


# ------------------------------------------------------------------------------------------ runs


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of changed bytes, as long as they go on; in order."""

    rows: Numbers
    """The pair of each."""
    firsts: Numbers
    """The offset of its first byte."""
    lengths: Numbers


def find_runs(flags: Flags) -> Runs:
    """Return the runs of set flags in each row."""
    edges = numpy.diff(numpy.pad(flags, ((0, 0), (1, 1))).astype(numpy.int8), axis=1)
    rows, firsts = numpy.nonzero(edges == 1)
    _rows, stops = numpy.nonzero(edges == -1)
    return Runs(rows, firsts, stops - firsts)


def find_pieces(changed: Flags) -> tuple[Numbers, Numbers]:
    """Return (first offset, offset behind) of a piece of each page that its changes lie in.

    From the first changed byte to the last if every second one between is changed, otherwise the
    shortest piece that holds 90 % of them, and the first of equally short ones.
    """
    rows, places = numpy.nonzero(changed)
    counts = changed.sum(axis=1)
    begins = numpy.concatenate([[0], numpy.cumsum(counts)[:-1]])
    wanted = numpy.ceil(counts * PIECE_SHARE).astype(numpy.int64)
    last = numpy.arange(len(places)) + wanted[rows] - 1
    inside = last < (begins + counts)[rows]
    lengths = numpy.full(len(places), PAGE_SIZE + 1)
    lengths[inside] = places[last[inside]] - places[inside] + 1
    shortest = numpy.minimum.reduceat(lengths, begins)
    candidates = numpy.flatnonzero(lengths == shortest[rows])
    _pairs, which = numpy.unique(rows[candidates], return_index=True)
    firsts = places[candidates[which]]
    first, behind = places[begins], places[begins + counts - 1] + 1
    whole = behind - first <= DENSITY * counts
    return numpy.where(whole, first, firsts), numpy.where(whole, behind, firsts + shortest)


# ----------------------------------------------------------------------------------------- shifts


def find_distances(pages: Pages, bases: Pages) -> Numbers:
    """Return for each pair the distance other than 0 at which most windows of the page at multiples
    of 8 stand in the base; 0 when there is none.

    Windows of one repeated word do not count, nor those that the base has more than once.
    """
    count = len(pages)
    keys, constant = _windows(bases)
    known, places, times = numpy.unique(keys, return_index=True, return_counts=True)
    told = (times == 1) & ~constant.reshape(-1)[places]
    known, places = known[told], places[told]
    windows = keys.reshape(count, -1).shape[1]
    if not len(known):
        return numpy.zeros(count, dtype=numpy.int64)
    wanted, _constant = _windows(pages)
    wanted = wanted.reshape(count, windows)[:, ::WORD_BYTES]
    nearest = numpy.minimum(numpy.searchsorted(known, wanted), len(known) - 1)
    distances = places[nearest] % windows - numpy.arange(0, windows, WORD_BYTES)
    counts = (known[nearest] == wanted) & (distances != 0)
    rows = numpy.nonzero(counts)[0]
    votes = numpy.bincount(
        rows * 2 * PAGE_SIZE + distances[counts] + PAGE_SIZE, minlength=count * 2 * PAGE_SIZE
    ).reshape(count, -1)
    return numpy.where(votes.any(axis=1), votes.argmax(axis=1) - PAGE_SIZE, 0)


_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
_HASH_BITS = 48


def _windows(pages: Pages) -> tuple[NDArray[numpy.uint64], Flags]:
    """The hash of the window at each offset with the pair's number in front, flat, and whether it
    is one repeated word. Equal hashes of different windows only make a wrong vote."""
    length = PAGE_SIZE - WORD_BYTES + 1
    words = numpy.zeros((len(pages), length), dtype=numpy.uint64)
    for byte in range(WORD_BYTES):
        words |= pages[:, byte : byte + length].astype(numpy.uint64) << numpy.uint64(8 * byte)
    windows = PAGE_SIZE - WINDOW_BYTES + 1
    hashes = numpy.zeros((len(pages), windows), dtype=numpy.uint64)
    constant = numpy.ones((len(pages), windows), dtype=bool)
    for number, multiplier in enumerate(_MULTIPLIERS):
        part = words[:, number * WORD_BYTES : number * WORD_BYTES + windows]
        hashes += (part ^ (part >> numpy.uint64(31))) * numpy.uint64(multiplier)
        constant &= part == words[:, :windows]
    rows = numpy.arange(len(pages), dtype=numpy.uint64)[:, None] << numpy.uint64(_HASH_BITS)
    return (rows | hashes >> numpy.uint64(64 - _HASH_BITS)).reshape(-1), constant


def find_equal(pages: Pages, bases: Pages, distances: Numbers) -> Flags:
    """Return which bytes of each page the base has at the pair's distance: those at offset p stand
    at offset p + distance of the base, inside of it."""
    offsets = numpy.arange(PAGE_SIZE) + distances[:, None]
    there = (offsets >= 0) & (offsets < PAGE_SIZE)
    moved = numpy.take_along_axis(bases, numpy.clip(offsets, 0, PAGE_SIZE - 1), axis=1)
    equal: Flags = there & (moved == pages)
    return equal


def keep_long_runs(flags: Flags) -> Flags:
    """Return the flags without those in runs of less than 32."""
    runs = find_runs(flags)
    long = runs.lengths >= WINDOW_BYTES
    steps = numpy.zeros((len(flags), PAGE_SIZE + 1), dtype=numpy.int8)
    rows, firsts = runs.rows[long], runs.firsts[long]
    # no two runs touch, so that each place is stepped on once
    steps[rows, firsts] = 1
    steps[rows, firsts + runs.lengths[long]] = -1
    kept: Flags = numpy.cumsum(steps[:, :PAGE_SIZE], axis=1).astype(bool)
    return kept


@dataclass(frozen=True, slots=True)
class Shifts:
    """What one other distance explains of each pair."""

    better: Flags
    """Whether more bytes are equal at that distance than at equal offsets."""
    explains: Flags
    """Whether most changed bytes, and at least 32, are equal there in runs of 32 or more."""


def find_shifts(pages: Pages, bases: Pages) -> Shifts:
    """Compare the pairs at the distance of find_distances()."""
    distances = find_distances(pages, bases)
    changed = pages != bases
    counts = changed.sum(axis=1)
    equal = find_equal(pages, bases, distances)
    explained = (keep_long_runs(equal) & changed).sum(axis=1)
    return Shifts(
        # at distance 0 the bytes are as equal as they are, and the changed ones are not
        equal.sum(axis=1) > PAGE_SIZE - counts,
        (explained >= MOST * counts) & (explained >= WINDOW_BYTES),
    )


# --------------------------------------------------------------------------------- classification


def classify_words(pages: Pages, bases: Pages) -> NDArray[numpy.int8]:
    """Return for each aligned word of each pair the place of its Word in the enumeration; -1 where
    nothing changed."""
    after, before = words_of(pages), words_of(bases)
    both = are_addresses(after) & are_addresses(before)
    half = numpy.uint64(32)
    near = both & (after >> half == before >> half)
    zero = (after == 0) | (before == 0)
    number = (after >> half == 0) & (before >> half == 0)
    kinds = numpy.select([after == before, near, both, zero, number], [-1, 0, 1, 2, 3], 4)
    return kinds.astype(numpy.int8)


def classify(pages: Pages, bases: Pages) -> list[Place]:
    """Return where most of each pair's changes are."""
    changed = pages != bases
    counts = changed.sum(axis=1)
    shifts = find_shifts(pages, bases)

    firsts, stops = find_pieces(changed)
    lengths = stops - firsts
    piece = (lengths <= DENSITY * counts) & (lengths <= LONGEST_PIECE)
    at_end, at_start = stops > PAGE_SIZE - EDGE_BYTES, firsts < EDGE_BYTES

    words = classify_words(pages, bases)
    addresses = ((words == 0) | (words == 1)).sum(axis=1)
    pointers = addresses >= MOST * (words >= 0).sum(axis=1)

    runs = find_runs(changed)
    short = numpy.bincount(
        runs.rows, runs.lengths * (runs.lengths <= SHORT_RUN), minlength=len(pages)
    )
    scattered = short >= MOST * counts
    chosen = numpy.select(
        [
            shifts.better | shifts.explains,
            piece & at_end,
            piece & at_start,
            piece,
            pointers,
            scattered,
        ],
        range(6),
        6,
    )
    every = list(Place)
    return [every[index] for index in chosen]


# ------------------------------------------------------------------------------------ measurement

_CHUNK = 128
"""Pairs looked at together: the arrays of one chunk are a few megabytes each."""


def difference_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Look at real pairs and patch them with every patcher.

    Parameters: `pairs` and `seed` as for sample_pairs(). The result: `pairs` sampled, `found` in
    all, and `cells`: sums for each class by EQUAL_SHARES (`similarity`) and each Place (`place`):

    - `pairs`, `changed` bytes, `better_shifted`: pairs of which more bytes are
      equal at one other distance than at equal offsets;
    - `runs`, `run_bytes`, `aligned_runs` (that begin at a multiple of 8): lists by RUN_LENGTHS;
    - `parts`: for the 16 parts of the page the sum of the shares of each pair's changed bytes;
    - `words`: a list by Word; `patches`: a dictionary, bytes by patcher (and alone).
    """
    pairs, found = sample_pairs(images, folder, parameters["pairs"], parameters["seed"])
    cells: dict[tuple[int, str], Result] = {}
    for start in range(0, len(pairs), _CHUNK):
        _add(cells, pairs[start : start + _CHUNK])
    return {
        "pairs": len(pairs),
        "found": found,
        "cells": [
            {"similarity": similarity, "place": place, **sums}
            for (similarity, place), sums in sorted(cells.items())
        ],
    }


def _add(cells: dict[tuple[int, str], Result], pairs: Sequence[Pair]) -> None:
    page_bytes, base_bytes = b"".join(p.page for p in pairs), b"".join(p.base for p in pairs)
    pages, bases = (
        numpy.frombuffer(content, dtype=numpy.uint8).reshape(-1, PAGE_SIZE)
        for content in (page_bytes, base_bytes)
    )
    changed = pages != bases
    counts = changed.sum(axis=1)
    similarity = numpy.digitize(1 - counts / PAGE_SIZE, EQUAL_SHARES) - 1
    places = numpy.array([list(Place).index(place) for place in classify(pages, bases)])
    better_shifted = find_shifts(pages, bases).better
    runs = find_runs(changed)
    length_class = numpy.digitize(runs.lengths, RUN_LENGTHS) - 1
    parts = changed.reshape(-1, PARTS, PART_BYTES).sum(axis=2) / counts[:, None]
    words = classify_words(pages, bases)
    patches = _patches(page_bytes, base_bytes)

    for cell in {*zip(similarity.tolist(), places.tolist(), strict=True)}:
        chosen = (similarity == cell[0]) & (places == cell[1])
        of_runs = chosen[runs.rows]
        classes = length_class[of_runs]
        lengths, aligned = runs.lengths[of_runs], runs.firsts[of_runs] % WORD_BYTES == 0
        sums = {
            "pairs": int(chosen.sum()),
            "changed": int(counts[chosen].sum()),
            "better_shifted": int(better_shifted[chosen].sum()),
            "runs": _histogram(classes, None),
            "run_bytes": _histogram(classes, lengths),
            "aligned_runs": _histogram(classes, aligned),
            "parts": parts[chosen].sum(axis=0).tolist(),
            "words": [int((words[chosen] == kind).sum()) for kind in range(len(Word))],
            "patches": {name: int(sizes[chosen].sum()) for name, sizes in patches.items()},
        }
        key = (cell[0], list(Place)[cell[1]].value)
        cells[key] = add_up([cells[key], sums]) if key in cells else sums


def _histogram(classes: Numbers, weights: NDArray[Any] | None) -> list[int]:
    counted = numpy.bincount(classes, weights, minlength=len(RUN_LENGTHS) - 1)
    return [int(count) for count in counted]


def _patches(pages: bytes, bases: bytes) -> dict[str, Numbers]:
    """Bytes of each pair's patch by patcher, each decoded and compared, and of the page alone."""
    patchers = {name: make() for name, make in COLUMNS.items()}
    measured = measure_patchers(patchers, pages, bases, rounds=1)
    return {name: numpy.array(of_patcher.lengths) for name, of_patcher in measured.items()}


def add_up(cells: Sequence[Mapping[str, Any]]) -> Result:
    """Add up the sums of cells, of which there must be one at least; `similarity` and `place` are
    left out."""
    total: Result = {}
    for name, first in cells[0].items():
        values = [cell[name] for cell in cells]
        if isinstance(first, list):
            total[name] = [sum(parts) for parts in zip(*values, strict=True)]
        elif isinstance(first, dict):
            total[name] = {key: sum(value[key] for value in values) for key in first}
        elif name not in ("similarity", "place"):
            total[name] = sum(values)
    return total
