"""The store: index, extents, hint tables, names.

``Store`` is loaded when it is first asked for: commands that only look at a store's lock or format
start without LMDB and the kernels.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difffs.store.store import Store

__all__ = ["Store"]


def __getattr__(name: str) -> Any:
    if name != "Store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from difffs.store.store import Store

    return Store
