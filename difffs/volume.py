"""Volumes: byte-addressed files over the engine, behind one bounded write buffer.

Writes land in the buffer and return; the routing thread takes pages that have been quiet, in
batches, routes them and maps them. A page rewritten while it waits is routed once (the paper's
clock: what changes is left alone). flush() drains the buffer and commits.

Lock rule: everything here is guarded by the store's lock; the routing thread drops it while it
routes and while it commits (docs/concurrency.md).
"""

import errno
import logging
import mmap
import threading
import time
from array import array
from bisect import bisect_left

from difffs._kernels import TABLE_ENTRIES, PageSlots
from difffs.engine import BATCH_PAGES, Engine
from difffs.errors import CorruptStore, DifffsError, StoreFull, StoreReadOnly
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE, page_count
from difffs.store import Store
from difffs.store.namespace import Inode, Namespace
from difffs.store.page_tables import HOLE, ZERO

logger = logging.getLogger("difffs.volume")

DEFAULT_BUFFER = 32 << 20
"""Bytes of the write buffer."""

COMMIT_SECONDS = 5.0
"""Longest time that a change waits for its commit without an fsync."""

COMMIT_PAGES = 16384
"""Pages (64 MiB) written since the last commit at which one is made."""

_TICK = 0.1
"""Seconds between looks at the buffer; a page not written for two ticks is quiet."""

_ZERO_PAGE = bytes(PAGE_SIZE)


class Volumes:
    """The files of an open store. Thread-safe."""

    def __init__(
        self, engine: Engine, buffer_bytes: int = DEFAULT_BUFFER, quiet_seconds: float = 2 * _TICK
    ) -> None:
        """Starts the routing thread; orphans of a crash (unlinked, never released) are removed."""
        self.engine = engine
        self.store: Store = engine.store
        self.namespace: Namespace = self.store.namespace
        self.lock = self.store.lock
        self.failed: DifffsError | None = None
        """Set after an internal surprise: nothing more is written, reading goes on."""
        slots = max(2 * BATCH_PAGES, buffer_bytes // PAGE_SIZE)
        self._arena = mmap.mmap(-1, slots * PAGE_SIZE)
        self._memory = memoryview(self._arena)
        self._page_slots = PageSlots(self._arena)
        self._free = self._page_slots.free
        self._slots = slots
        self._quiet_ticks = max(1, round(quiet_seconds / _TICK))
        self._tick = 0
        # Page keys are inode << 32 | page number. `_waiting` is ordered by last write. Both
        # stay the same objects: `page_reader` knows them.
        self._waiting: dict[int, int] = {}
        self._routing: dict[int, int] = {}
        self.page_reader = self.store.page_reader(self._waiting, self._routing)
        """Reads a few pages without more ado where it can; where not, read_into() does."""
        self._staging = bytearray(BATCH_PAGES * PAGE_SIZE)
        self._full: StoreFull | None = None
        self._flush_asked = 0
        self._flush_done = 0
        self._flush_error: DifffsError | None = None
        self._since_commit = 0
        self._last_commit = time.monotonic()
        self._closing = False
        self._room = threading.Condition(self.lock)
        self._work = threading.Condition(self.lock)
        self._flushed = threading.Condition(self.lock)
        self._thread = threading.Thread(
            target=self._route_forever, name="difffs-router", daemon=True
        )
        if not self.store.read_only:
            for orphan in self.namespace.orphans():
                self.remove(orphan.number)
            self._thread.start()

    # -- reading ---------------------------------------------------------------------------------

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes of the write buffer in use now."""
        return (self._slots - len(self._free)) * PAGE_SIZE

    def mapped_pages(self, inode: int) -> int:
        """Stored pages of a volume that are not holes (pages still buffered are not counted)."""
        return self.store.mapped_pages(inode)

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the write buffer at most."""
        return self._slots * PAGE_SIZE

    def _buffered(self, key: int) -> int | None:
        slot = self._waiting.get(key)
        return slot if slot is not None else self._routing.get(key)

    def _page_view(self, slot: int) -> memoryview:
        return self._memory[slot * PAGE_SIZE : (slot + 1) * PAGE_SIZE]

    def read(self, inode: int, offset: int, size: int) -> bytes:
        """Bytes of a volume, fewer at its end; PayloadDamaged when a page cannot be rebuilt."""
        with self.lock:
            out = bytearray(min(size, max(0, self.namespace.get(inode).size - offset)))
            self.read_into(inode, offset, memoryview(out))
            return bytes(out)

    def read_into(self, inode: int, offset: int, out: memoryview) -> int:
        """Fills out as read() would; returns how many bytes count, those behind are undefined."""
        with self.lock:
            end = min(offset + len(out), self.namespace.get(inode).size)
            if offset >= end:
                return 0
            first, start = divmod(offset, PAGE_SIZE)
            count = (end - 1) // PAGE_SIZE + 1 - first
            if start == 0 and count * PAGE_SIZE <= len(out):
                self._read_pages(inode, first, count, out)
            else:
                pages = memoryview(bytearray(count * PAGE_SIZE))
                self._read_pages(inode, first, count, pages)
                out[: end - offset] = pages[start : start + end - offset]
            return end - offset

    def _read_pages(self, inode: int, first: int, count: int, out: memoryview) -> None:
        if not self._waiting and not self._routing:
            self.engine.read(inode, first, count, out)
            return
        key = inode << 32 | first
        run = 0  # pages not in the buffer, up to here
        for index in range(count):
            slot = self._buffered(key + index)
            if slot is None:
                run += 1
                continue
            if run:
                self.engine.read(inode, first + index - run, run, out[(index - run) * PAGE_SIZE :])
                run = 0
            out[index * PAGE_SIZE : (index + 1) * PAGE_SIZE] = self._page_view(slot)
        if run == count:
            self.engine.read(inode, first, count, out)
        elif run:
            self.engine.read(inode, first + count - run, run, out[(count - run) * PAGE_SIZE :])

    # -- writing ---------------------------------------------------------------------------------

    def _writable(self) -> None:
        if self.failed is not None:
            raise self.failed
        if self.store.read_only:
            raise StoreReadOnly(f"{self.store.path} is open for reading; mount it without ro")

    def write(self, inode: int, offset: int, data: bytes | memoryview) -> int:
        """Writes bytes anywhere; the volume grows as needed. Waits while the buffer is full."""
        size = len(data)
        if offset + size > MAXIMUM_VOLUME_SIZE:
            raise OSError(errno.EFBIG, "volumes have at most 16 TiB")
        view = memoryview(data)
        with self.lock:
            self._writable()
            record = self.namespace.get(inode)
            done = 0
            try:
                while done < size:
                    page, start = divmod(offset + done, PAGE_SIZE)
                    whole = 0 if start else (size - done) & -PAGE_SIZE
                    if whole and (put := self._put_whole(inode, page, view[done : done + whole])):
                        done += put * PAGE_SIZE
                        continue
                    length = min(PAGE_SIZE - start, size - done)
                    self._put(inode, page, start, view[done : done + length])
                    done += length
            finally:
                if done:  # also what an error leaves: no page lies behind the volume's end
                    self._written(record, offset + done)
        return size

    def _written(self, record: Inode, end: int) -> None:
        record.size = max(record.size, end)
        record.mtime_ns = record.ctime_ns = time.time_ns()
        self.namespace.touch(record.number)

    def _put_whole(self, inode: int, page: int, data: memoryview) -> int:
        """Puts whole pages as far as there is room for them without waiting; how many."""
        put = self._page_slots.put(self._waiting, inode << 32 | page, data, self._tick)
        if len(self._free) <= self._slots // 2:
            self._work.notify()
        return put

    def _put(self, inode: int, page: int, start: int, data: memoryview) -> None:
        key = inode << 32 | page
        slot = self._waiting.pop(key, None)
        if slot is None:
            slot = self._take_slot(inode)
            # Waiting for room drops the lock, so the page may be in the buffer by now.
            other = self._waiting.pop(key, None)
            if other is not None:
                self._free.append(slot)
                slot = other
            elif len(data) != PAGE_SIZE:
                try:
                    self._copy_page(inode, page, slot)
                except BaseException:
                    self._free.append(slot)
                    raise
        at = slot * PAGE_SIZE + start
        self._memory[at : at + len(data)] = data
        self._page_slots.touch(slot, self._tick)
        self._waiting[key] = slot  # last in the order: most recently written

    def _copy_page(self, inode: int, page: int, slot: int) -> None:
        routing = self._routing.get(inode << 32 | page)
        if routing is not None:
            self._page_view(slot)[:] = self._page_view(routing)
        else:
            self.engine.read(inode, page, 1, self._page_view(slot))

    def _take_slot(self, inode: int) -> int:
        if len(self._free) <= self._slots // 2:
            self._work.notify()
        while not self._free:
            self._writable()
            if self._full is not None:
                raise self._full
            self._work.notify()
            self._room.wait(1.0)
            self.namespace.get(inode)  # raises when the volume was removed meanwhile
        return self._free.pop()

    # -- changing size and holes -----------------------------------------------------------------

    def _forget_buffered(self, inode: int, first: int, end: int) -> None:
        """Drops buffered pages [first, end); those being routed are not mapped afterwards."""
        low, high = inode << 32 | first, (inode << 32) + end
        if end - first <= len(self._waiting) + len(self._routing):
            keys = [key for key in range(low, high) if key in self._waiting]
            routing = [key for key in range(low, high) if key in self._routing]
        else:
            keys = [key for key in self._waiting if low <= key < high]
            routing = [key for key in self._routing if low <= key < high]
        for key in keys:
            self._free.append(self._waiting.pop(key))
        for key in routing:
            # The slot stays taken until the batch is done: the routing thread frees it.
            del self._routing[key]
        if keys:
            self._room.notify_all()

    def _zero_bytes(self, inode: int, page: int, start: int, end: int) -> None:
        """Zeros part of a page, unless it is a hole anyway."""
        if start >= end:
            return
        if self._buffered(inode << 32 | page) is None and self.store.lookup(inode, page, 1)[0] in (
            HOLE,
            ZERO,
        ):
            return
        self._put(inode, page, start, memoryview(_ZERO_PAGE)[: end - start])

    def truncate(self, inode: int, size: int) -> None:
        """Sets the size; what is cut off is freed, what is added is a hole."""
        if size > MAXIMUM_VOLUME_SIZE:
            raise OSError(errno.EFBIG, "volumes have at most 16 TiB")
        with self.lock:
            self._writable()
            record = self.namespace.get(inode)
            if size < record.size:
                page, start = divmod(size, PAGE_SIZE)
                if start:
                    self._zero_bytes(inode, page, start, PAGE_SIZE)
                self._make_hole(inode, page_count(size), page_count(record.size))
            record.size = size
            record.mtime_ns = record.ctime_ns = time.time_ns()
            self.namespace.touch(inode)

    def _make_hole(self, inode: int, first: int, end: int) -> None:
        if first < end:
            self._forget_buffered(inode, first, end)
            self.store.fill(inode, first, end - first, HOLE)
            self._work.notify()

    def punch(self, inode: int, offset: int, length: int) -> None:
        """Zeros a range and frees its whole pages; the size stays."""
        with self.lock:
            self._writable()
            record = self.namespace.get(inode)
            end = min(offset + length, page_count(record.size) * PAGE_SIZE)
            if offset >= end:
                return
            first, start = divmod(offset, PAGE_SIZE)
            last, stop = divmod(end, PAGE_SIZE)
            if first == last:
                self._zero_bytes(inode, first, start, stop)
            else:
                if start:
                    self._zero_bytes(inode, first, start, PAGE_SIZE)
                    first += 1
                self._zero_bytes(inode, last, 0, stop)
                self._make_hole(inode, first, last)
            record.mtime_ns = record.ctime_ns = time.time_ns()
            self.namespace.touch(inode)

    def allocate(self, inode: int, offset: int, length: int) -> None:
        """Grows the volume to hold the range; space is given out when pages are written."""
        if offset + length > MAXIMUM_VOLUME_SIZE:
            raise OSError(errno.EFBIG, "volumes have at most 16 TiB")
        with self.lock:
            self._writable()
            record = self.namespace.get(inode)
            if offset + length > record.size:
                self._written(record, offset + length)

    def remove(self, inode: int) -> None:
        """Frees the pages and the record of an unlinked volume."""
        with self.lock:
            self._writable()
            self._forget_buffered(inode, 0, MAXIMUM_VOLUME_SIZE // PAGE_SIZE)
            self.store.fill(inode, 0, MAXIMUM_VOLUME_SIZE // PAGE_SIZE, HOLE)
            self.namespace.drop(inode)
            self._work.notify()

    # -- data and holes --------------------------------------------------------------------------

    def seek_data(self, inode: int, offset: int) -> int:
        """The first byte of data at or behind offset; OSError ENXIO when there is none."""
        with self.lock:
            size = self.namespace.get(inode).size
            page, limit = offset // PAGE_SIZE, page_count(size)
            buffered = sorted(
                key & 0xFFFFFFFF
                for table in (self._waiting, self._routing)
                for key in table
                if key >> 32 == inode
            )
            at = bisect_left(buffered, page)
            best = buffered[at] if at < len(buffered) else limit
            for chunk in self.store.chunks_of(inode, page):
                first = max(page, chunk * TABLE_ENTRIES)
                if first >= min(best, limit):
                    break
                count = min((chunk + 1) * TABLE_ENTRIES, limit) - first
                ids = self.store.lookup(inode, first, count)
                found = next((i for i, value in enumerate(ids) if value != HOLE), None)
                if found is not None:
                    best = min(best, first + found)
                    break
            found_offset = max(offset, best * PAGE_SIZE)
            if offset >= size or found_offset >= size:
                raise OSError(errno.ENXIO, "no data behind that offset")
            return found_offset

    def seek_hole(self, inode: int, offset: int) -> int:
        """The first hole at or behind offset; the end of the volume counts as one."""
        with self.lock:
            size = self.namespace.get(inode).size
            if offset >= size:
                raise OSError(errno.ENXIO, "offset behind the end")
            page, limit = offset // PAGE_SIZE, page_count(size)
            while page < limit:
                count = min(TABLE_ENTRIES, limit - page)
                for index, value in enumerate(self.store.lookup(inode, page, count)):
                    if value == HOLE and self._buffered(inode << 32 | (page + index)) is None:
                        return min(size, max(offset, (page + index) * PAGE_SIZE))
                page += count
            return size

    # -- flushing --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Returns when everything written before is committed.

        Raises StoreFull when there is no room for it (it stays buffered, and later flushes try
        again), or the error that stopped the routing thread.
        """
        with self.lock:
            if self.store.read_only:
                return
            self._flush_asked += 1
            mine = self._flush_asked
            self._full = None
            self._work.notify()
            while self._flush_done < mine:
                if not self._thread.is_alive():
                    raise self.failed or CorruptStore(f"{self.store.path}: routing has stopped")
                self._flushed.wait(1.0)
            if self._flush_error is not None:
                raise self._flush_error
            if self.failed is not None:
                raise self.failed

    def close(self) -> None:
        """Flushes and ends the routing thread; the store stays open. Raises as flush does."""
        try:
            if self._thread.is_alive():
                self.flush()
        finally:
            with self.lock:
                self._closing = True
                self._work.notify()
            if self._thread.is_alive():
                self._thread.join()

    # -- the routing thread ----------------------------------------------------------------------

    def fail(self, error: DifffsError) -> None:
        """Stops all writing: from here on only what is there can be read."""
        with self.lock:
            if self.failed is None:
                self.failed = error
                logger.error("writing has stopped: %s", error)
            self._room.notify_all()
            self._work.notify()

    def _route_forever(self) -> None:
        try:
            while self._wait_for_work():
                self._one_round()
        except BaseException as error:
            logger.exception("the routing thread ends")
            if not isinstance(error, DifffsError):
                error = CorruptStore(
                    f"{self.store.path}: an internal error ({error!r}) has stopped all writing;"
                    " unmount, run `difffs check` and report this"
                )
            self.fail(error)
        finally:
            with self.lock:
                self._flush_done = self._flush_asked
                self._flushed.notify_all()

    def _wait_for_work(self) -> bool:
        with self.lock:
            urgent = self._flush_asked > self._flush_done or (
                len(self._free) <= self._slots // 2 and self._full is None
            )
            if not urgent and not self._closing:
                self._work.wait(1.0 if self._full is not None else _TICK)
            self._tick += 1
            return not self._closing

    def _one_round(self) -> None:
        with self.lock:
            asked = self._flush_asked
        flushing = asked > self._flush_done
        error: DifffsError | None = None
        try:
            if self.failed is None:
                try:
                    self._drain(flushing=flushing)
                except StoreFull:
                    # A commit gives back what was freed since the last one: removed volumes,
                    # overwritten pages, the old sides of rewritten extents.
                    self._commit()
                    self._drain(flushing=flushing)
                self.store.settle()
                if flushing or self._commit_is_due():
                    self._commit()
                self._full = None
        except StoreFull as full:
            error = full
            with self.lock:
                if self._full is None:
                    logger.warning("%s", full)
                self._full = full
                self._room.notify_all()
        if flushing:
            with self.lock:
                self._flush_error = error
                self._flush_done = asked
                self._flushed.notify_all()

    def _drain(self, *, flushing: bool) -> None:
        """Routes what is quiet; flushing: what waits now, and not what others go on writing."""
        with self.lock:
            wanted = list(reversed(self._waiting)) if flushing else None
        while self._route_batch(wanted):
            if self._since_commit >= COMMIT_PAGES or self.store.holds_superseded:
                self._commit()
            if not flushing and self._flush_asked > self._flush_done:
                break

    def _commit_is_due(self) -> bool:
        return time.monotonic() - self._last_commit > COMMIT_SECONDS and (
            self.store.uncommitted > 0 or self.store.reclaimable
        )

    def _commit(self) -> None:
        self._last_commit = time.monotonic()
        self._since_commit = 0
        self.store.commit()

    def _take_batch(self, wanted: list[int] | None) -> list[int]:
        """Moves up to a batch of pages, least recently written first, to `_routing`.

        Of `wanted`, last first; or else quiet pages, and all in a buffer more than half full.
        """
        keys: list[int] = []
        if wanted is not None:
            while wanted and len(keys) < BATCH_PAGES:
                key = wanted.pop()
                if key in self._waiting:
                    keys.append(key)
        else:
            crowded = len(self._free) <= self._slots // 2
            latest = self._tick if crowded else self._tick - self._quiet_ticks
            if latest >= 0:
                keys = self._page_slots.oldest(self._waiting, BATCH_PAGES, latest)
        keys.sort()
        for key in keys:
            self._routing[key] = self._waiting.pop(key)
        return keys

    def _route_batch(self, wanted: list[int] | None) -> bool:
        with self.lock:
            keys = self._take_batch(wanted)
            if not keys:
                return False
            slots = [self._routing[key] for key in keys]
            self._page_slots.gather(slots, self._staging)
        pages = memoryview(self._staging)[: len(keys) * PAGE_SIZE]
        try:
            ids = self.engine.route(pages)
        except StoreFull:
            with self.lock:
                self._put_back(keys, slots)
            raise
        with self.lock:
            wanted = [i for i, key in enumerate(keys) if self._routing.get(key) == slots[i]]
            self.engine.adopt(ids, self._targets(keys, ids, wanted))
            if len(wanted) < len(keys):
                kept = set(wanted)
                self.store.release(array("I", [ids[i] for i in range(len(keys)) if i not in kept]))
            for i in wanted:
                del self._routing[keys[i]]
            self._free.extend(slots)
            self._since_commit += len(keys)
            self._room.notify_all()
        self.store.settle()
        return True

    def _put_back(self, keys: list[int], slots: list[int]) -> None:
        """Pages that could not be stored wait again, as the oldest."""
        older: dict[int, int] = {}
        for key, slot in zip(keys, slots, strict=True):
            if self._routing.pop(key, None) is None or key in self._waiting:
                self._free.append(slot)
            else:
                older[key] = slot
        newer = dict(self._waiting)
        self._waiting.clear()
        self._waiting.update(older)
        self._waiting.update(newer)

    @staticmethod
    def _targets(
        keys: list[int], ids: "array[int]", wanted: list[int]
    ) -> list[tuple[int, "array[int]", "array[int]"]]:
        if len(wanted) < len(keys):
            keys = [keys[i] for i in wanted]
            ids = array("I", [ids[i] for i in wanted])
        targets: list[tuple[int, array[int], array[int]]] = []
        start = 0
        while start < len(keys):  # ascending, so that each volume's are together
            owner = keys[start] >> 32
            end = bisect_left(keys, (owner + 1) << 32, start)
            pages = array("Q", [key & 0xFFFFFFFF for key in keys[start:end]])
            targets.append((owner, pages, ids[start:end]))
            start = end
        return targets
