"""The store: LMDB index, packed extents, hint tables, refcounts, commit and check."""

from difffs.store.occupancy import Occupancy
from difffs.store.store import Store

__all__ = ["Occupancy", "Store"]
