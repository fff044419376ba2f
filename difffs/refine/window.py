"""Which objects have their turn together: those of extents in a row, all of one domain."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from difffs._kernels import EXTENT_SLOTS
from difffs.refine.tiers import UNDER_WAY, Tier
from difffs.store import Store
from difffs.store.store import LOADED_HEADERS

WINDOW_OBJECTS = 1 << 18
"""In a window: 1 GiB of distinct pages, among which each finds its like. That takes some 150 bytes
an object, 37 MiB in all."""

WINDOW_WHEN_SCARCE = 1 << 10
"""The same while the file system is nearly full: their groups take the little room there is, and
then a few extents are left with next to nothing, instead of many with a little less."""


@dataclass(slots=True)
class Window:
    """Objects, and the extents whose turn is over with them."""

    domain: int
    ids: "array[int]" = field(default_factory=lambda: array("I"))
    extents: list[int] = field(default_factory=list)
    """Those that are fresh for the tier."""


def windows(store: Store, tier: Tier, *, sparse: bool) -> Iterator[Window]:
    """All of what refining to that tier should try; with `sparse` also the members of groups of
    which many are gone. Holds the store's lock for an extent at a time."""
    for domain, numbers in sorted(_extents_by_domain(store).items()):
        window = Window(domain)
        for number in numbers:
            _take_extent(store, tier, window, number, sparse=sparse)
            most = WINDOW_WHEN_SCARCE if store.is_scarce else WINDOW_OBJECTS
            if len(window.ids) > most - EXTENT_SLOTS:
                yield window
                window = Window(domain)
        if window.ids or window.extents:
            yield window


def _extents_by_domain(store: Store) -> "dict[int, array[int]]":
    extents = store.extents
    by_domain: dict[int, array[int]] = {}
    with store.lock:
        for number in range(1, extents.count):
            if extents.in_use(number):
                by_domain.setdefault(extents.domain_of(number), array("I")).append(number)
    return by_domain


def _take_extent(store: Store, tier: Tier, window: Window, number: int, *, sparse: bool) -> None:
    extents = store.extents
    with store.lock:
        if not extents.in_use(number) or extents.domain_of(number) != window.domain:
            return  # gone, or another's, since the windows were begun
        store.load_headers([number])
        fresh = extents.refined(number) % UNDER_WAY < tier.number
        if fresh or sparse:
            ids, missing = extents.to_refine(number, tier.codec, fresh, sparse)
            while missing:
                store.load_headers([*missing, number])
                ids, missing = extents.to_refine(number, tier.codec, fresh, sparse)
            window.ids.extend(ids)
            if fresh:
                window.extents.append(number)
        extents.trim(LOADED_HEADERS)
