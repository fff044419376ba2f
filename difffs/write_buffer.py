"""The write buffer: bounded memory for pages that wait to be routed.

A page is *waiting* after its last write, and *routing* while the routing thread works on a copy of
it. It can be both: then what waits is newer. Pages are named by keys, inode << 32 | page number.
"""

import mmap

from difffs._kernels import VolumePages
from difffs.errors import OutOfResources
from difffs.page import PAGE_SIZE
from difffs.store import Store


def page_key(inode: int, page: int) -> int:
    """The key of a volume's page."""
    return inode << 32 | page


def open_pages(store: Store, slots: int) -> VolumePages:
    """The pages of a store's volumes behind a write buffer of so many pages. OutOfResources.

    The buffer is address space only: a slot takes memory when it is first used.
    """
    try:
        arena = mmap.mmap(-1, slots * PAGE_SIZE)
    except OSError as error:
        raise OutOfResources(
            f"no memory for a write buffer of {slots * PAGE_SIZE} bytes ({error.strerror}):"
            " make it smaller (-o buffer=SIZE)"
        ) from None
    return store.volume_pages(arena)
