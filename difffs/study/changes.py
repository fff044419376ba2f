"""Changed pages: a real page, and the same page with a stated number of bytes changed somewhere.

New bytes are as real as old ones: a piece of another page of the corpus, from the same place in the
page, so that it compresses as memory does and its words stay aligned. A piece counts by the bytes
that really differ, and at least every second of its bytes does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy
from numpy.random import RandomState
from numpy.typing import NDArray

from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.page_sample import sample_pages
from difffs.study.patchers import PATCHERS, Alone, Patcher
from difffs.study.patching import measure_patchers
from difffs.study.words import WORD_BYTES, WORDS, are_addresses, words_of

CHANGE_PASS_VERSION = 3

SIMILARITIES = (0.99, 0.95, 0.9, 0.75, 0.5)
"""Shares of bytes that stay."""

DENSITY = 2
"""A piece of changes is at most so many times as long as bytes differ in it."""

ADDRESS_BYTES = 4
"""Of an address, the lower ones, that change: where in its region it points."""


class Kind(StrEnum):
    """Where the changes are."""

    END = "end"
    """The last bytes of the page."""
    START = "start"
    """The first ones."""
    RUN = "one run"
    """One piece at a random place."""
    RANDOM_RUN = "random run"
    """As RUN, but of random bytes: what cannot be compressed is the same for every patcher."""
    BYTES = "bytes"
    """Single bytes at random places."""
    POINTERS = "pointers"
    """The lower four bytes of aligned words: of the page's addresses first, then of others."""
    SHIFT = "shift"
    """A piece is inserted, what follows moves, and the page's end falls off. All of the base but
    that is still there, but not at equal offsets."""


Page = NDArray[numpy.uint8]
"""4,096 bytes."""


def changed_count(similarity: float) -> int:
    """Return how many bytes of a page change."""
    return round((1 - similarity) * PAGE_SIZE)


def change(
    kind: Kind, base: Page, source: Page, addresses: Page, count: int, chance: RandomState
) -> Page | None:
    """Return the base with `count` bytes changed; None where `source` is too much like it.

    Exactly `count` bytes differ from the base; for SHIFT, `count` bytes are inserted. New bytes
    come from `source`, another page, those of POINTERS from `addresses`, rows of 8 bytes.
    """
    return _MAKERS[kind](base, source, addresses, count, chance)


def _end(base: Page, source: Page, _: Page, count: int, _chance: RandomState) -> Page | None:
    differing = numpy.flatnonzero(base != source)
    if len(differing) < count or PAGE_SIZE - differing[-count] > DENSITY * count:
        return None
    return _replaced(base, int(differing[-count]), source[differing[-count] :])


def _start(base: Page, source: Page, _: Page, count: int, _chance: RandomState) -> Page | None:
    differing = numpy.flatnonzero(base != source)
    if len(differing) < count or differing[count - 1] + 1 > DENSITY * count:
        return None
    return _replaced(base, 0, source[: differing[count - 1] + 1])


def _run(base: Page, source: Page, _: Page, count: int, chance: RandomState) -> Page | None:
    differing = numpy.flatnonzero(base != source)
    if len(differing) < count:
        return None
    firsts = differing[: len(differing) - count + 1]
    stops = differing[count - 1 :] + 1
    dense = numpy.flatnonzero(stops - firsts <= DENSITY * count)
    if not len(dense):
        return None
    chosen = dense[chance.randint(len(dense))]
    return _replaced(base, int(firsts[chosen]), source[firsts[chosen] : stops[chosen]])


def _random_run(base: Page, _source: Page, _: Page, count: int, chance: RandomState) -> Page | None:
    first = chance.randint(PAGE_SIZE - count + 1)
    return _replaced(base, first, _other_bytes(base[first : first + count], chance))


def _bytes(base: Page, source: Page, _: Page, count: int, chance: RandomState) -> Page | None:
    places = chance.choice(PAGE_SIZE, count, replace=False)
    page = base.copy()
    page[places] = _drawn(base[places], source, chance)
    return page


def _pointers(
    base: Page, _source: Page, addresses: Page, count: int, chance: RandomState
) -> Page | None:
    order = chance.permutation(WORDS)
    by_preference = order[numpy.argsort(~are_addresses(words_of(base))[order], kind="stable")]
    whole, rest = divmod(count, ADDRESS_BYTES)
    if whole + bool(rest) > WORDS:
        return None
    page = base.copy()
    for byte in range(ADDRESS_BYTES):
        places = by_preference[: whole + (byte < rest)] * WORD_BYTES + byte
        page[places] = _drawn(base[places], addresses[:, byte], chance)
    return page


def _shift(base: Page, source: Page, _: Page, count: int, chance: RandomState) -> Page | None:
    before = numpy.concatenate([[0], numpy.cumsum(base != source)])
    dense = numpy.flatnonzero((before[count:] - before[:-count]) * DENSITY >= count)
    if not len(dense):
        return None
    place = int(dense[chance.randint(len(dense))])
    inserted = source[place : place + count]
    page = numpy.concatenate([base[:place], inserted, base[place : PAGE_SIZE - count]])
    return None if numpy.array_equal(page, base) else page


def _replaced(base: Page, first: int, piece: Page) -> Page:
    page = base.copy()
    page[first : first + len(piece)] = piece
    return page


def _other_bytes(current: Page, chance: RandomState) -> Page:
    """For each byte another one, every one as likely."""
    return current + chance.randint(1, 256, len(current)).astype(numpy.uint8)


_DRAWS = 32


def _drawn(current: Page, source: Page, chance: RandomState) -> Page:
    """For each byte another one, as frequent as in `source`; any other where that has no other."""
    drawn = source[chance.randint(len(source), size=len(current))]
    for _ in range(_DRAWS):
        equal = numpy.flatnonzero(drawn == current)
        if not len(equal):
            break
        drawn[equal] = source[chance.randint(len(source), size=len(equal))]
    equal = numpy.flatnonzero(drawn == current)
    drawn[equal] = _other_bytes(current[equal], chance)
    return drawn


_Maker = Callable[[Page, Page, Page, int, RandomState], Page | None]
_MAKERS: Mapping[Kind, _Maker] = {
    Kind.END: _end,
    Kind.START: _start,
    Kind.RUN: _run,
    Kind.RANDOM_RUN: _random_run,
    Kind.BYTES: _bytes,
    Kind.POINTERS: _pointers,
    Kind.SHIFT: _shift,
}


def change_all(
    kind: Kind, bases: Sequence[bytes], similarity: float, seed: int
) -> list[bytes | None]:
    """Change each of the bases; None for one that no other base is a source for.

    For each, the others are tried as sources in random order. The same arguments give the same
    pages: RandomState's numbers are the same in every version of numpy.
    """
    rows = numpy.frombuffer(b"".join(bases), dtype=numpy.uint8).reshape(-1, PAGE_SIZE)
    every = words_of(rows).reshape(-1)
    known = every[are_addresses(every)]
    # words of any kind where there is no address at all
    addresses = (known if len(known) else every).view(numpy.uint8).reshape(-1, WORD_BYTES)
    count = changed_count(similarity)
    made: list[bytes | None] = []
    for number, base in enumerate(rows):
        chance = RandomState([seed, number, list(Kind).index(kind), count])
        page = None
        for source in chance.permutation(len(rows)):
            if source != number:
                page = change(kind, base, rows[source], addresses, count, chance)
            if page is not None:
                break
        made.append(None if page is None else page.tobytes())
    return made


# ------------------------------------------------------------------------------------ measurement

WITHOUT_BASE = "zstd 1, no base"
"""Stands beside the patchers: what the page takes alone."""

COLUMNS: Mapping[str, Callable[[], Patcher]] = {**PATCHERS, WITHOUT_BASE: Alone}
"""What stands beside each other in tables."""

_SLOW_SECONDS = 0.1
"""A patcher that takes longer for the pages of one cell does so once: there are many cells."""


def change_pass(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Change sampled pages in each way and patch them with every patcher.

    Parameters: `pages` and `seed` as for sample_pages(). The result: `sampled` pages, `pages` of
    them that could be changed in all ways (only these count), and `cells`: for each `kind`,
    `similarity` and `patcher` the `bytes` of all patches, and `encode_us` and `decode_us` as of
    Measured.
    """
    sampled = sample_pages(images, parameters["pages"], parameters["seed"])
    changed = {
        (kind, similarity): change_all(kind, sampled, similarity, parameters["seed"])
        for kind in Kind
        for similarity in SIMILARITIES
        if sampled
    }
    usable = [i for i in range(len(sampled)) if all(made[i] for made in changed.values())]
    bases = b"".join(sampled[i] for i in usable)
    patchers = {name: make() for name, make in COLUMNS.items()}
    cells = []
    for (kind, similarity), made in changed.items() if usable else ():
        pages = b"".join(page for i in usable if (page := made[i]))
        measured = measure_patchers(patchers, pages, bases, slow_seconds=_SLOW_SECONDS)
        cells += [
            {
                "kind": kind,
                "similarity": similarity,
                "patcher": name,
                "bytes": sum(of_patcher.lengths),
                "encode_us": of_patcher.encode_us,
                "decode_us": of_patcher.decode_us,
            }
            for name, of_patcher in measured.items()
        ]
    return {"sampled": len(sampled), "pages": len(usable), "cells": cells}
