"""Volumes: byte-addressed files over the engine, behind one bounded write buffer.

Writes land in the buffer and return; the routing thread takes pages that have been quiet, in
batches, routes them and maps them. A page rewritten while it waits is routed once (the paper's
clock: what changes is left alone). flush() drains the buffer and commits.

Lock rule: everything here is guarded by the store's lock; the routing thread drops it while it
routes and while it commits (docs/concurrency.md). Beside it, what answers for open volumes without
Python (`pages`) reads and writes whole pages, with the page lock only.
"""

import errno
import logging
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from difffs import linux
from difffs.engine import BATCH_PAGES, Engine
from difffs.errors import CorruptStore, DifffsError, StoreFull, StoreReadOnly, TryAgain
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE, page_count
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.store.namespace import Namespace
from difffs.store.page_tables import HOLE, ZERO
from difffs.write_buffer import open_pages, page_key

logger = logging.getLogger("difffs.volume")

DEFAULT_BUFFER = 32 << 20
"""Bytes of the write buffer."""

COMMIT_SECONDS = 5.0
"""Longest time that a change waits for its commit without an fsync."""

COMMIT_CHANGES = 4096
"""Changed index pages (16 MiB) at which one is made while volumes are being removed."""

COMMIT_PAGES = 16384
"""Pages (64 MiB) written since the last commit at which one is made."""

_REMOVED_FIRST = 8
"""Pieces of volumes being removed, of some milliseconds each, that a flush waits for."""

_TICK = 0.1
"""Seconds between looks at the buffer; a page not written for two ticks is quiet."""

_IDLE_SECONDS = 1.0
"""Seconds between looks at an empty buffer, or at what cannot be stored now."""

_GIVE_BACK_SECONDS = 10.0
"""Between two times at which memory is given back that nobody uses; slots of the buffer after twice
as long at the latest."""

_ZERO_PAGE = bytes(PAGE_SIZE)


class _Job:
    """Something for the routing thread."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None


class _Flush(NamedTuple):
    """What somebody waits for."""

    volumes: Collection[int] | None
    """None: all."""


class Volumes:
    """The files of an open store. Thread-safe."""

    def __init__(
        self, engine: Engine, buffer_bytes: int = DEFAULT_BUFFER, quiet_seconds: float = 2 * _TICK
    ) -> None:
        """Starts the routing thread, which also removes the orphans that a crash left."""
        self.engine = engine
        self.store: Store = engine.store
        self.namespace: Namespace = self.store.namespace
        self.lock = self.store.lock
        self.failed: DifffsError | None = None
        """Set after an internal surprise: nothing more is written, reading goes on."""
        self.pages = open_pages(self.store, max(2 * BATCH_PAGES, buffer_bytes // PAGE_SIZE))
        """The pages of open volumes, for whoever answers requests without Python."""
        self._quiet_ticks = max(1, round(quiet_seconds / _TICK))
        self._staging = bytearray(BATCH_PAGES * PAGE_SIZE)
        self._full: TryAgain | None = None
        self.waited_ns = 0
        """Nanoseconds that writes have waited for room in the write buffer."""
        self._flush_asked = 0
        self._flush_done = 0
        self._flush_error: DifffsError | None = None
        self._flush_volumes: set[int] | None = set()
        """Of the flushes that are asked for and not yet under way; None: all volumes."""
        self._since_commit = 0
        self._last_commit = time.monotonic()
        self._closing = False
        self._jobs: deque[_Job] = deque()
        self._last_routed = time.monotonic()
        self.routed_batches = 0
        self.keeps_memory = False
        """Whether what was allocated once stays: a daemon that carries swap had better not ask for
        memory when there is none."""
        self._gave_back = time.monotonic()
        self._trimmed_batches = 0
        self._room = threading.Condition(self.lock)
        self._flushed = threading.Condition(self.lock)
        self._thread = threading.Thread(
            target=self._route_forever, name="difffs-router", daemon=True
        )
        if not self.store.read_only:
            self.store.hold_reserve()
            self._thread.start()

    # -- reading ---------------------------------------------------------------------------------

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes of the write buffer in use now."""
        return (self.pages.slots - self.pages.available) * PAGE_SIZE

    @property
    def resident_buffer_bytes(self) -> int:
        """Memory that the write buffer has, in use or not."""
        return self.pages.resident_slots * PAGE_SIZE

    def data_pages(self, inode: int) -> int:
        """Pages of a volume that hold data or may do so soon: those that are stored and no holes,
        and those that wait in the buffer. At most as many as its size has."""
        with self.lock:
            found = self.store.mapped_pages(inode) + self.pages.buffered(inode)
            return min(found, page_count(self.namespace.get(inode).size))

    @property
    def buffer_bytes(self) -> int:
        """Bytes of the write buffer at most."""
        return self.pages.slots * PAGE_SIZE

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
        if not self.pages.buffered(inode):
            self.engine.read(inode, first, count, out)
            return
        # Pages leave the buffer for the page tables with the lock only, which the caller holds.
        run = 0  # pages not in the buffer, up to here
        for index in range(count):
            page = out[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            if not self.pages.copy_buffered(page_key(inode, first + index), page):
                run += 1
                continue
            if run:
                self.engine.read(inode, first + index - run, run, out[(index - run) * PAGE_SIZE :])
                run = 0
        if run:
            self.engine.read(inode, first + count - run, run, out[(count - run) * PAGE_SIZE :])

    # -- writing ---------------------------------------------------------------------------------

    def _writable(self) -> None:
        if self.failed is not None:
            raise self.failed.again()
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
            if offset > record.size:
                self._clear_tail(inode)
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
        self._set_size(record, max(record.size, end))

    def _set_size(self, record: Inode, size: int) -> None:
        self.namespace.set_size(record, size)
        self.pages.set_size(record.number, size)

    def note_writes(self, inode: int = 0) -> None:
        """Gives volumes that were written without Python their times: one, or all of them."""
        with self.lock:
            for number, nanoseconds in self.pages.take_written(inode):
                self.namespace.note_write(number, nanoseconds)

    def _put_whole(self, inode: int, page: int, data: memoryview) -> int:
        """Puts whole pages as far as there is room for them without waiting; how many."""
        return self.pages.put(page_key(inode, page), data)

    def _put(self, inode: int, page: int, start: int, data: memoryview) -> None:
        """Puts a page, or a part of one. Waits for room, with the lock free meanwhile."""
        key = page_key(inode, page)
        content = bytearray(PAGE_SIZE)
        while not self.pages.write_waiting(key, start, data):
            self.store.lookup(inode, page, 1)  # brings what place() looks at into memory
            place = self.pages.place(key)
            if len(data) != PAGE_SIZE:
                self._read_pages(inode, page, 1, memoryview(content))
            content[start : start + len(data)] = data
            put = self.pages.put_from(key, place, content)
            if put:
                return
            if put is None:
                self._wait_for_room(inode)

    def _wait_for_room(self, inode: int) -> None:
        while not self.pages.has_room(inode):
            self._writable()
            if self._full is not None:
                raise self._full.again()
            self.pages.wake()
            began = time.monotonic_ns()
            self._room.wait(1.0)
            self.waited_ns += time.monotonic_ns() - began
            self.namespace.get(inode)  # raises when the volume was removed meanwhile

    # -- changing size and holes -----------------------------------------------------------------

    def _forget_buffered(self, inode: int, first: int, end: int) -> None:
        """Drops buffered pages [first, end); those being routed are not mapped afterwards."""
        if self.pages.forget(inode, first, end):
            self._room.notify_all()

    def _zero_bytes(self, inode: int, page: int, start: int, end: int) -> None:
        """Zeros part of a page, unless it is a hole anyway."""
        if start >= end:
            return
        if self.pages.is_buffered(page_key(inode, page)):
            pass
        elif self.store.lookup(inode, page, 1)[0] in (HOLE, ZERO):
            return
        self._put(inode, page, start, memoryview(_ZERO_PAGE)[: end - start])

    def truncate(self, inode: int, size: int) -> None:
        """Sets the size; what is cut off is freed, what is added is a hole."""
        if size > MAXIMUM_VOLUME_SIZE:
            raise OSError(errno.EFBIG, "volumes have at most 16 TiB")
        with self.lock:
            self._writable()
            record = self.namespace.get(inode)
        if size > record.size:
            self._clear_tail(inode)
        with self.store.one_change():
            # What is answered without Python first: nothing is written any more behind the new end.
            self.pages.set_size(inode, min(size, record.size))
            self._make_hole(inode, page_count(size), page_count(record.size))
            with self.lock:
                self._set_size(record, size)

    def _clear_tail(self, inode: int) -> None:
        """Before a volume grows by anything but bytes right behind its end: zeros what lies there
        in its last page, left by a former end.

        Cutting leaves it: a commit might save the new size before the zeros that wait in the
        buffer. Here they are stored before the size is changed.
        """
        with self.lock:
            size = self.namespace.get(inode).size
            page, start = divmod(size, PAGE_SIZE)
            if not start:
                return
            content = bytearray(PAGE_SIZE)
            self._read_pages(inode, page, 1, memoryview(content))
            if not any(content[start:]):
                return
            self._put(inode, page, start, memoryview(_ZERO_PAGE)[start:])
        self.flush([inode])

    def _make_hole(self, inode: int, first: int, end: int) -> None:
        """Without the lock, which in a long range is let go of now and then."""
        if first < end:
            self.store.make_hole(inode, first, end, partial(self._forget_buffered, inode))
            self.pages.wake()

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
        # Whole pages first: on a full disk that makes the room that zeroing a part may take.
        with self.store.one_change():
            self._make_hole(inode, first + bool(start), last)
            with self.lock:
                self.namespace.set_size(record, record.size)
        if first == last:
            self._zero_edge(inode, first, start, stop)
        else:
            self._zero_edge(inode, first, start, PAGE_SIZE if start else 0)
            self._zero_edge(inode, last, 0, stop)

    def _zero_edge(self, inode: int, page: int, start: int, end: int) -> None:
        """Zeros part of a page; on a full disk after what can be freed has been."""
        try:
            with self.lock:
                self._zero_bytes(inode, page, start, end)
        except TryAgain:
            self.flush()
            with self.lock:
                self._zero_bytes(inode, page, start, end)

    def allocate(self, inode: int, offset: int, length: int) -> None:
        """Grows the volume to hold the range; space is given out when pages are written."""
        if offset + length > MAXIMUM_VOLUME_SIZE:
            raise OSError(errno.EFBIG, "volumes have at most 16 TiB")
        with self.lock:
            self._writable()
            record = self.namespace.get(inode)
            if offset + length > record.size:
                self._clear_tail(inode)
                self._written(record, offset + length)

    def remove(self, inode: int, *, in_use: Callable[[int], bool] | None = None) -> None:
        """Lets the pages and the record of an unlinked file be freed, soon and by themselves; for
        the parts of images see Store.remove()."""
        with self.lock:
            self._writable()
            self._forget_buffered(inode, 0, MAXIMUM_VOLUME_SIZE // PAGE_SIZE)
            self.store.remove(inode, in_use=in_use)
            self.pages.wake()

    # -- data and holes --------------------------------------------------------------------------

    def seek_data(self, inode: int, offset: int) -> int:
        """The first byte of data at or behind offset; OSError ENXIO when there is none."""
        with self.lock:
            size = self.namespace.get(inode).size
            page, limit = offset // PAGE_SIZE, page_count(size)
            best = self.pages.next_buffered(inode, page, limit)
            found = self.store.next_data(inode, page, best)
            found_offset = max(offset, (best if found is None else found) * PAGE_SIZE)
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
            while (page := self.store.next_hole(inode, page, limit)) < limit:
                if not self.pages.is_buffered(page_key(inode, page)):
                    break
                page += 1
            return min(size, max(offset, page * PAGE_SIZE))

    # -- flushing --------------------------------------------------------------------------------

    def flush(self, volumes: Collection[int] | None = None) -> None:
        """Returns when everything written before is committed; with `volumes`, what was written to
        these, and all that is no page's content.

        Raises StoreFull when there is no room for it (it stays buffered, and later flushes try
        again), or the error that stopped the routing thread.
        """
        with self.lock:
            if self.store.read_only:
                return
            self._flush_asked += 1
            if volumes is None:
                self._flush_volumes = None
            elif self._flush_volumes is not None:
                self._flush_volumes.update(volumes)
            mine = self._flush_asked
            self._full = None
            self.pages.wake()
            while self._flush_done < mine:
                if not self._thread.is_alive():
                    stopped = CorruptStore(f"{self.store.path}: routing has stopped")
                    raise (self.failed or stopped).again()
                self._flushed.wait(1.0)
            if self._flush_error is not None:
                raise self._flush_error.again()
            if self.failed is not None:
                raise self.failed.again()

    def close(self) -> None:
        """Flushes and ends the routing thread; the store stays open. Raises as flush does."""
        try:
            if self._thread.is_alive():
                self.flush()
        finally:
            with self.lock:
                self._closing = True
                self.pages.wake()
            if self._thread.is_alive():
                self._thread.join()
        if self.failed is not None:
            raise self.failed.again()

    # -- what else changes the store -------------------------------------------------------------

    def on_routing_thread(self, work: Callable[[], object]) -> object:
        """Runs something on the routing thread, between two of its rounds, and returns what it
        does. Raises what it raises: TryAgain harms nobody, with any other error writing has
        stopped.
        """
        job = _Job(work)
        with self.lock:
            self._jobs.append(job)
            self.pages.wake()
        while not job.done.wait(1.0):
            if not self._thread.is_alive() and not job.done.is_set():
                stopped = CorruptStore(f"{self.store.path}: routing has stopped")
                raise (self.failed or stopped).again()
        if job.error is not None:
            raise job.error
        return job.result

    def commit(self) -> None:
        """Commits what is routed. Routing thread."""
        self._commit()

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for the routing thread, or soon may."""
        return self._flush_asked > self._flush_done or self.pages.is_crowded

    @property
    def quiet_seconds(self) -> float:
        """Seconds since pages were routed last; 0 while some wait for it."""
        return 0.0 if self.pages.waiting_count else time.monotonic() - self._last_routed

    def _do_jobs(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            try:
                if self.failed is not None:
                    raise self.failed.again()
                job.result = job.work()
            except TryAgain as error:
                job.error = error
            except BaseException as error:
                job.error = error
                if self.failed is None:
                    raise
            finally:
                job.done.set()
            if self.is_busy:
                break  # the others with the next round

    # -- the routing thread ----------------------------------------------------------------------

    def fail(self, error: DifffsError) -> None:
        """Stops all writing: from here on only what is there can be read."""
        with self.lock:
            if self.failed is None:
                self.failed = error
                logger.error("writing has stopped: %s", error)
            self.pages.refuse()
            # By whatever way this ends: what may be wrong is never committed.
            self.store.stop(error)
            self._room.notify_all()
            self.pages.wake()

    def _route_forever(self) -> None:
        try:
            while self._wait_for_work():
                self._one_round()
                self._do_jobs()
                self._give_back_memory()
        except BaseException as error:
            if not isinstance(error, DifffsError):  # else one line tells all
                logger.exception("the routing thread ends")
                error = CorruptStore(
                    f"{self.store.path}: an internal error ({error!r}) has stopped all writing;"
                    " unmount, run `difffs check` and report this"
                )
            self.fail(error)
        finally:
            with self.lock:
                self._flush_done = self._flush_asked
                self._flushed.notify_all()

    def _give_back_memory(self) -> None:
        now = time.monotonic()
        if self.keeps_memory or now - self._gave_back < _GIVE_BACK_SECONDS:
            return
        self._gave_back = now
        self.pages.give_back_memory()
        # Requests and batches come in MiB, of which the C library keeps tens.
        was_used = self.routed_batches != self._trimmed_batches
        if self.store.extents.give_back_memory() or was_used:
            self._trimmed_batches = self.routed_batches
            linux.trim_allocator()

    def _wait_for_work(self) -> bool:
        with self.lock:
            hindered = self._full is not None or self.failed is not None
            urgent = self._flush_asked > self._flush_done or (
                (self.pages.is_crowded or self.store.has_removals) and not hindered
            )
            urgent = urgent or self._closing or bool(self._jobs)
        if not urgent:
            # An empty buffer has nothing that could become quiet; what comes is looked at in time,
            # since it has to wait anyway.
            idle = hindered or not self.pages.waiting_count
            self.pages.wait_for_work(_IDLE_SECONDS if idle else _TICK)
        with self.lock:
            return not self._closing

    def _one_round(self) -> None:
        with self.lock:
            asked = self._flush_asked
            volumes, self._flush_volumes = self._flush_volumes, set()
        flushing = asked > self._flush_done
        error: DifffsError | None = None
        try:
            if self.failed is None:
                self._store_pages_or_make_room(_Flush(volumes) if flushing else None)
                self._full = None
        except TryAgain as full:
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

    def _store_pages_or_make_room(self, flush: "_Flush | None") -> None:
        # Pages must not take the last room there is: the commit that frees some needs it.
        if not self.pages.waiting_count or self.store.hold_reserve():
            try:
                self._store_pages(flush)
                return
            except StoreFull as error:
                full = error
        else:
            full = StoreFull(
                f"no space left for {self.store.path} (but what making room takes); free some"
                " there, nothing is lost"
            )
        # A commit gives back what was freed since the last one: removed volumes, overwritten pages,
        # the old sides of rewritten extents.
        if not self.store.make_room():
            raise full
        self._store_pages(flush)

    def _store_pages(self, flush: "_Flush | None") -> None:
        self._drain(flush)
        self.store.settle()
        # A small volume goes with this commit, a large one in as many as it takes.
        for _ in range(_REMOVED_FIRST):
            if not self.store.remove_some():
                break
        if flush is not None or self._commit_is_due():
            self._commit()
        while self.store.remove_some():
            if self.store.uncommitted > COMMIT_CHANGES:
                self._commit()
            if self._flush_asked > self._flush_done or self.pages.is_crowded or self._closing:
                break  # others wait: this goes on with the next round

    def _drain(self, flush: "_Flush | None") -> None:
        """Routes what is quiet; for a flush: what waits of its volumes now, and not what others go
        on writing."""
        with self.lock:
            wanted = None if flush is None else self._waiting_by_domain(flush.volumes)
        while self._route_batch(wanted):
            if self._since_commit >= COMMIT_PAGES or self.store.holds_superseded:
                self._commit()
            if flush is None and self._flush_asked > self._flush_done:
                break

    def _commit_is_due(self) -> bool:
        return time.monotonic() - self._last_commit > COMMIT_SECONDS and (
            self.store.uncommitted > 0 or self.store.reclaimable
        )

    def _commit(self) -> None:
        self.note_writes()
        self._last_commit = time.monotonic()
        self._since_commit = 0
        self.store.commit()
        self.store.hold_reserve()

    def _domains_of(self, keys: "array[int]") -> list[int]:
        volumes = [key >> 32 for key in keys]
        known = {volume: self.store.domain_of(volume) for volume in set(volumes)}
        return [known[volume] for volume in volumes]

    def _waiting_by_domain(self, volumes: Collection[int] | None) -> "list[tuple[int, array[int]]]":
        """(domain, keys) of what waits of some volumes, or of all; last first."""
        waiting = self.pages.waiting(volumes)
        waiting.reverse()
        if not self.store.has_domains:
            return [(0, waiting)]
        by_domain: dict[int, array[int]] = {}
        for key, domain in zip(waiting, self._domains_of(waiting), strict=True):
            by_domain.setdefault(domain, array("Q")).append(key)
        return list(by_domain.items())

    def _choose_batch(
        self, wanted: "list[tuple[int, array[int]]] | None"
    ) -> "tuple[int, array[int]]":
        """A domain, and the keys of up to a batch of its pages, ascending.

        Of `wanted`, last first; or else quiet pages, and all in a buffer more than half full.
        """
        keys = array("Q")
        if wanted is None:
            latest = self.pages.tick - (0 if self.pages.is_crowded else self._quiet_ticks)
            if latest < 0 or not (oldest := self.pages.oldest(BATCH_PAGES, latest)):
                return 0, keys
            if not self.store.has_domains:
                return 0, array("Q", sorted(oldest))
            domains = self._domains_of(oldest)
            for key, domain in zip(oldest, domains, strict=True):
                if domain == domains[0]:  # others have their turn with the next batch
                    keys.append(key)
            return domains[0], array("Q", sorted(keys))
        while wanted:
            domain, left = wanted[-1]
            while left and (room := BATCH_PAGES - len(keys)):
                keys.extend(self.pages.those_waiting(left[-room:]))
                del left[-room:]
            if keys:
                return domain, array("Q", sorted(keys))
            wanted.pop()
        return 0, keys

    def _route_batch(self, wanted: "list[tuple[int, array[int]]] | None") -> bool:
        with self.lock:
            domain, chosen = self._choose_batch(wanted)
            if not chosen:
                return False
            keys, slots = self.pages.begin(chosen, self._staging)
        if not keys:
            return True  # all were punched meanwhile
        pages = memoryview(self._staging)[: len(keys) * PAGE_SIZE]
        try:
            ids = self.engine.route(pages, domain=domain)
        except TryAgain:
            with self.lock:
                self.pages.put_back(keys, slots)
            raise
        with self.lock:
            self.engine.adopt_buffered(ids, keys, slots)
            self._since_commit += len(keys)
            self._last_routed = time.monotonic()
            self.routed_batches += 1
            self._room.notify_all()
        self.store.settle()
        return True
