"""The write buffer: bounded memory for pages that wait to be routed.

A page is *waiting* after its last write, and *routing* while the routing thread works on a copy of
it. It can be both: then what waits is newer. Pages are named by keys, inode << 32 | page number.

Lock rule: the store's lock guards all of it.
"""

import mmap

from difffs._kernels import PageSlots
from difffs.errors import OutOfResources
from difffs.page import PAGE_SIZE


def page_key(inode: int, page: int) -> int:
    """The key of a volume's page."""
    return inode << 32 | page


class WriteBuffer:
    """Slots of a page each, and which page is in which."""

    def __init__(self, slots: int) -> None:
        """Address space only: a slot takes memory when it is first used. OutOfResources."""
        try:
            self._arena = mmap.mmap(-1, slots * PAGE_SIZE)
        except OSError as error:
            raise OutOfResources(
                f"no memory for a write buffer of {slots * PAGE_SIZE} bytes ({error.strerror}):"
                " make it smaller (-o buffer=SIZE)"
            ) from None
        self._memory = memoryview(self._arena)
        self._slots = PageSlots(self._arena)
        # Both stay the same objects: PageReader (native) knows them.
        self.waiting: dict[int, int] = {}
        """Slots by key, least recently written first. To be looked at only."""
        self.routing: dict[int, int] = {}
        """Likewise of pages that are being routed."""
        self._pages: dict[int, int] = {}

    # -- room ------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Slots in all."""
        return self._slots.count

    @property
    def used(self) -> int:
        """Slots in use."""
        return self._slots.count - self._slots.available

    @property
    def is_crowded(self) -> bool:
        """Whether half of the slots or more are in use."""
        return self._slots.available <= self._slots.count // 2

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return not self._slots.available

    # -- looking at it ---------------------------------------------------------------------------

    def __bool__(self) -> bool:
        """Whether any page waits or is being routed."""
        return bool(self.waiting or self.routing)

    def slot(self, key: int) -> int | None:
        """Where the newest bytes of a page are, or None."""
        found = self.waiting.get(key)
        return found if found is not None else self.routing.get(key)

    def view(self, slot: int) -> memoryview:
        """The page in a slot."""
        return self._memory[slot * PAGE_SIZE : (slot + 1) * PAGE_SIZE]

    def pages(self, inode: int) -> int:
        """Pages of the volume that are in the buffer; one that waits again while it is being routed
        counts twice. O(1)."""
        return self._pages.get(inode, 0)

    def keys(self, inode: int, first: int, end: int) -> list[int]:
        """The keys of the volume's pages [first, end) that are in the buffer, ascending, each once.
        O(the fewer of the range's pages and the buffer's)."""
        if not self.pages(inode):
            return []
        low, high = page_key(inode, first), page_key(inode, 0) + end
        if end - first <= len(self.waiting) + len(self.routing):
            return [key for key in range(low, high) if key in self.waiting or key in self.routing]
        return sorted(
            {key for table in (self.waiting, self.routing) for key in table if low <= key < high}
        )

    # -- writing ---------------------------------------------------------------------------------

    def put_pages(self, inode: int, page: int, data: memoryview, tick: int) -> int:
        """Puts whole pages as far as there is room for them; how many."""
        before = len(self.waiting)
        try:
            return self._slots.put(self.waiting, page_key(inode, page), data, tick)
        finally:
            self._count(inode, len(self.waiting) - before)

    def take_slot(self) -> int | None:
        """A slot to prepare a page in, for `put_slot` or `give_back`; None when none is free."""
        return self._slots.take()

    def give_back(self, slots: list[int]) -> None:
        """Makes slots free."""
        self._slots.give_back(slots)

    def take_waiting(self, inode: int, page: int) -> int | None:
        """The slot of a page that waits, which it leaves until `put_slot`; or None."""
        slot = self.waiting.pop(page_key(inode, page), None)
        if slot is not None:
            self._count(inode, -1)
        return slot

    def put_slot(self, inode: int, page: int, slot: int, tick: int) -> None:
        """Lets the page in the slot wait, as the most recently written one."""
        self._slots.touch(slot, tick)
        self.waiting[page_key(inode, page)] = slot
        self._count(inode, 1)

    def forget(self, inode: int, first: int, end: int) -> bool:
        """Drops the volume's pages [first, end); those being routed are not mapped afterwards.
        Returns whether slots became free."""
        freed = []
        for key in self.keys(inode, first, end):
            slot = self.waiting.pop(key, None)
            if slot is not None:
                freed.append(slot)
                self._count(inode, -1)
            # The slot stays taken until the batch is done: finish() frees it.
            if self.routing.pop(key, None) is not None:
                self._count(inode, -1)
        self._slots.give_back(freed)
        return bool(freed)

    def _count(self, inode: int, change: int) -> None:
        pages = self._pages.get(inode, 0) + change
        if pages:
            self._pages[inode] = pages
        else:
            self._pages.pop(inode, None)

    # -- routing ---------------------------------------------------------------------------------

    def oldest(self, most: int, latest: int) -> list[int]:
        """The keys of at most so many pages, longest waiting first, not written after `latest`."""
        return self._slots.oldest(self.waiting, most, latest)

    def begin(self, keys: list[int], out: bytearray) -> list[int]:
        """Moves waiting pages to be routed, and copies them to `out`. Returns their slots."""
        slots = []
        for key in keys:
            slot = self.waiting.pop(key)
            # Never there already: a batch is done before the next begins.
            self.routing[key] = slot
            slots.append(slot)
        self._slots.gather(slots, out)
        return slots

    def still_wanted(self, keys: list[int], slots: list[int]) -> list[int]:
        """Indices of those pages of a batch that were not dropped meanwhile."""
        return [i for i, key in enumerate(keys) if self.routing.get(key) == slots[i]]

    def finish(self, keys: list[int], slots: list[int]) -> None:
        """Ends a batch: its pages are mapped, or were dropped."""
        for key, slot in zip(keys, slots, strict=True):
            if self.routing.get(key) == slot:
                del self.routing[key]
                self._count(key >> 32, -1)
        self._slots.give_back(slots)

    def put_back(self, keys: list[int], slots: list[int]) -> None:
        """Ends a batch that could not be stored: its pages wait again, as the oldest."""
        older: dict[int, int] = {}
        freed = []
        for key, slot in zip(keys, slots, strict=True):
            if self.routing.get(key) != slot:
                freed.append(slot)  # dropped meanwhile
                continue
            del self.routing[key]
            if key in self.waiting:  # written again meanwhile
                self._count(key >> 32, -1)
                freed.append(slot)
            else:
                older[key] = slot
        newer = dict(self.waiting)
        self.waiting.clear()
        self.waiting.update(older)
        self.waiting.update(newer)
        self._slots.give_back(freed)
