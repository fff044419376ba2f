"""Hostile pages are written and read back: right, and at a bounded cost each.

The cost is what the kernel counts for this process: calls that read, and the bytes that they read
(``/proc/self/io``). Payloads are read by such calls; the index is mapped. Whatever the contents, a
page that is written has at most four objects proposed that may be identical and two bases, and each
is read with the base below it; a page that is read has its payload read, and its base's.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from difffs.recipe import RECIPES
from tests.endurance.hostile.contents import KINDS, PAGE
from tests.stores import OpenStore

_PROPOSED = 4 + 2
_BATCH = 512
_OVERHEAD_CALLS = 200
"""Calls of a trial that are no page's: headers, the index's file, the interpreter."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a page took, on average over a trial."""

    kind: str
    pages: int
    objects: int
    write_calls: float
    write_bytes: float
    read_calls: float
    read_bytes: float
    write_microseconds: float
    read_microseconds: float


def bounds(recipe: str) -> tuple[int, int]:
    """Return the payloads read at most for a page that is written, and for one that is read."""
    payloads = 1 + RECIPES[recipe].maximum_depth
    return _PROPOSED * payloads, payloads


def _counted() -> tuple[int, int]:
    """Return (calls that read, bytes read) of this process until now."""
    lines = Path("/proc/self/io").read_text().splitlines()
    values = {name: int(value) for name, value in (line.split(":") for line in lines)}
    return values["syscr"], values["rchar"]


def try_kind(folder: Path, kind: str, seed: int, recipe: str = "default") -> Cost:
    """Write a kind's pages, commit, read all in another order. AssertionError when one is wrong,
    the store is not clean or a bound is broken."""
    make, count = KINDS[kind]
    pages = make(seed, count)
    with OpenStore(folder / f"{kind}-{seed}", recipe) as one:
        volume = one.new_volume("hostile", len(pages))
        before, began = _counted(), time.perf_counter()
        for first in range(0, len(pages), _BATCH):
            one.write(volume, first, b"".join(pages[first : first + _BATCH]))
        wrote, took = _counted(), time.perf_counter() - began
        one.store.commit()
        read_before, began = _counted(), time.perf_counter()
        # a stride that meets all, in no order of writing
        for number in range(len(pages)):
            at = number * 7919 % len(pages)
            assert one.read(volume, at) == pages[at], f"{kind}, seed {seed}: page {at}"
        read, read_took = _counted(), time.perf_counter() - began
        objects = one.store.object_count()
        one.assert_clean()
    many = len(pages)
    cost = Cost(
        kind,
        many,
        objects,
        (wrote[0] - before[0]) / many,
        (wrote[1] - before[1]) / many,
        (read[0] - read_before[0]) / many,
        (read[1] - read_before[1]) / many,
        took / many * 1e6,
        read_took / many * 1e6,
    )
    most_written, most_read = bounds(recipe)
    spare = _OVERHEAD_CALLS / many
    assert cost.write_calls <= most_written + spare, cost
    assert cost.write_bytes <= (most_written + spare) * PAGE, cost
    assert cost.read_calls <= most_read + spare, cost
    assert cost.read_bytes <= (most_read + spare) * PAGE, cost
    return cost
