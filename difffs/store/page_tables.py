"""Page tables: which object each page of a volume is, in chunks of 1,016 pages.

A chunk is a 16-byte prefix {checksum, objects, zeros, 0} and 4-byte object ids; 0 is a hole (never
written or punched) and 255 a page of zeros. Chunks that map nothing are not stored.

Long runs of chunks that become holes are kept as *dropped ranges* until they are committed: they
are deleted without being loaded, so that removing a large volume takes no memory.
"""

import time
from array import array
from bisect import bisect_right

from difffs._kernels import (
    TABLE_BYTES,
    TABLE_ENTRIES,
    table_counts,
    table_fill,
    table_lookup,
    table_map,
    table_seal,
)
from difffs.errors import CorruptStore
from difffs.store.index import Index

HOLE = 0
ZERO = 255

CLEAN_CHUNKS = 1024
"""Chunks kept in memory though unchanged (4 MiB)."""

CHUNK_LIMIT = 1 << 23
"""Chunk numbers of a volume are below this: 2^32 pages in chunks of 1,016."""

_FEW_CHUNKS = 16
"""A range of so many chunks is looked at one by one; of a longer one, the index is asked."""


class _Ranges:
    """Dropped ranges of chunks, by volume: ascending, apart from each other."""

    def __init__(self) -> None:
        """None."""
        self._of_volume: dict[int, list[tuple[int, int]]] = {}
        self.chunks = 0
        """Chunks that were dropped: how much there is to delete."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._of_volume)

    def contains(self, volume: int, chunk: int) -> bool:
        """Whether the chunk is in a range. O(log ranges)."""
        ranges = self._of_volume.get(volume)
        if ranges is None:
            return False
        at = bisect_right(ranges, (chunk, CHUNK_LIMIT)) - 1
        return at >= 0 and chunk < ranges[at][1]

    def add(self, volume: int, first: int, end: int) -> None:
        """Adds [first, end), joined with what it touches."""
        ranges = self._of_volume.setdefault(volume, [])
        apart = [one for one in ranges if one[1] < first or one[0] > end]
        joined = [one for one in ranges if not (one[1] < first or one[0] > end)]
        first = min([first, *(one[0] for one in joined)])
        end = max([end, *(one[1] for one in joined)])
        self._of_volume[volume] = sorted([*apart, (first, end)])

    def extend(self, other: "_Ranges") -> None:
        """Adds all of another's."""
        for volume, first, end in other.all():
            self.add(volume, first, end)
        self.chunks += other.chunks

    def all(self) -> list[tuple[int, int, int]]:
        """(volume, first, end) of each, ascending."""
        return [
            (volume, first, end)
            for volume in sorted(self._of_volume)
            for first, end in self._of_volume[volume]
        ]


class PageTables:
    """The chunks in memory over those in the index. The store's lock guards all of it."""

    def __init__(self, index: Index) -> None:
        """Nothing is loaded yet."""
        self._index = index
        self.chunks: dict[tuple[int, int], bytearray] = {}
        """Those in memory, by (volume, chunk); to be looked at only."""
        self._dirty: set[tuple[int, int]] = set()
        self._committing: set[tuple[int, int]] = set()
        # Of chunks in these, the index has what is no longer true; one that maps anything again
        # is in `chunks` and dirty.
        self._dropped = _Ranges()
        self._committing_dropped = _Ranges()
        self.released = array("I")
        """Objects that pages no longer refer to; the store takes the references back."""
        self.objects = 0
        """Pages that are objects."""
        self.zeros = 0
        """Pages written as zeros."""
        self._mapped: dict[int, int] = {}
        for volume, chunk, stored in index.tables():
            objects, zeros = self._counts_of(stored, volume, chunk)
            self.objects += objects
            self.zeros += zeros
            self._mapped[volume] = self._mapped.get(volume, 0) + objects + zeros

    def mapped(self, volume: int) -> int:
        """Pages of the volume that are not holes."""
        return self._mapped.get(volume, 0)

    @property
    def dirty_count(self) -> int:
        """Chunks that no finished commit holds as they are now."""
        dropped = self._dropped.chunks + self._committing_dropped.chunks
        return len(self._dirty | self._committing) + dropped

    def chunk(self, volume: int, chunk: int) -> bytearray | None:
        """A chunk to look at, or None when it maps nothing."""
        return self.chunks.get((volume, chunk)) or self._load(volume, chunk)

    def _load(self, volume: int, chunk: int) -> bytearray | None:
        key = (volume, chunk)
        table = self.chunks.get(key)
        if table is None:
            stored = self._stored(volume, chunk)
            if stored is None:
                return None
            self._counts_of(stored, volume, chunk)
            table = self.chunks[key] = bytearray(stored)
        return table

    def _stored(self, volume: int, chunk: int) -> memoryview | None:
        """The index's bytes of a chunk that is not in memory; None when it maps nothing."""
        if self._is_dropped(volume, chunk):
            return None
        return self._index.table(volume, chunk)

    def _is_dropped(self, volume: int, chunk: int) -> bool:
        return self._dropped.contains(volume, chunk) or self._committing_dropped.contains(
            volume, chunk
        )

    def _counts_of(self, stored: memoryview, volume: int, chunk: int) -> tuple[int, int]:
        """(objects, zeros) of a stored chunk; CorruptStore when it is damaged."""
        try:
            counts: tuple[int, int] = table_counts(stored)
        except ValueError as error:
            raise CorruptStore(
                f"{self._index.path}: chunk {chunk} of the page table of volume {volume} is damaged"
                f" ({error}); run `difffs check` and restore the store from a copy"
            ) from None
        return counts

    def _load_to_change(self, volume: int, chunk: int) -> bytearray:
        table = self._load(volume, chunk)
        if table is None:
            table = self.chunks[volume, chunk] = bytearray(TABLE_BYTES)
        self._dirty.add((volume, chunk))
        return table

    def lookup(self, volume: int, first: int, count: int) -> "array[int]":
        """Object ids of pages [first, first + count)."""
        ids = array("I", bytes(4 * count))
        at = 0
        while at < count:
            chunk, entry = divmod(first + at, TABLE_ENTRIES)
            run = min(count - at, TABLE_ENTRIES - entry)
            table_lookup(self._load(volume, chunk), entry, run, ids, at)
            at += run
        return ids

    def map(self, volume: int, pages: "array[int]", ids: "array[int]") -> None:
        """Maps pages (ascending, array of 'Q') to ids; their former objects are released."""
        start = 0
        while start < len(pages):
            chunk = pages[start] // TABLE_ENTRIES
            end = self._end_of_run(pages, start, (chunk + 1) * TABLE_ENTRIES)
            table = self._load_to_change(volume, chunk)
            before = _counts(table)
            table_map(table, pages, ids, start, end, self.released)
            self._count(volume, before, table)
            start = end

    @staticmethod
    def _end_of_run(pages: "array[int]", start: int, limit: int) -> int:
        """The index behind the last page below limit."""
        if pages[-1] < limit:
            return len(pages)
        low, high = start, len(pages)
        while low < high:
            middle = (low + high) // 2
            if pages[middle] < limit:
                low = middle + 1
            else:
                high = middle
        return low

    def fill(self, volume: int, first: int, count: int, value: int) -> None:
        """Makes pages [first, first + count) holes or zeros; their objects are released.

        O(chunks of the range): for holes in long ranges there is :meth:`drop`.
        """
        end = first + count
        for chunk in range(first // TABLE_ENTRIES, (end - 1) // TABLE_ENTRIES + 1):
            if value == HOLE and self._load(volume, chunk) is None:
                continue
            begin = max(first, chunk * TABLE_ENTRIES)
            stop = min(end, (chunk + 1) * TABLE_ENTRIES)
            table = self._load_to_change(volume, chunk)
            before = _counts(table)
            table_fill(table, begin % TABLE_ENTRIES, stop - begin, value, self.released)
            self._count(volume, before, table)

    def drop(
        self,
        volume: int,
        first: int,
        end: int,
        most: int,
        most_released: int,
        deadline: float = float("inf"),
    ) -> int:
        """Makes whole chunks [first, end) holes: as many of those that map anything as `most`, and
        no more once `most_released` ids are in `released` or the clock (time.monotonic) is past
        `deadline`, but at least one. Returns the chunk to go on with: `end` when all is done.
        O(chunks that it drops)."""
        chunks = self.chunks_of(volume, first, end, most)
        done = end if len(chunks) < most else chunks[-1] + 1
        for count, chunk in enumerate(chunks):
            late = len(self.released) >= most_released or time.monotonic() > deadline
            if count and late:
                done = chunk
                break
            self._drop_chunk(volume, chunk)
        self._dropped.add(volume, first, done)
        return done

    def _drop_chunk(self, volume: int, chunk: int) -> None:
        key = (volume, chunk)
        table = self.chunks.pop(key, None)
        if table is None:
            stored = self._index.table(volume, chunk)
            if stored is None:
                return
            before = self._counts_of(stored, volume, chunk)
            # What the index holds is not to be changed, and zeros are released by counting.
            table = bytearray(stored) if before[0] else bytearray(0)
        else:
            before = _counts(table)
        if before[0]:
            table_fill(table, 0, TABLE_ENTRIES, HOLE, self.released)
        self._dirty.discard(key)
        self._dropped.chunks += 1
        self._add_counts(volume, -before[0], -before[1])

    def next_chunk(self, volume: int, first: int, end: int) -> int | None:
        """The first chunk in [first, end) that may map anything."""
        if first < end and ((volume, first) in self.chunks or self._stored(volume, first)):
            return first  # nearly always; what follows looks through all that is in memory
        found = self.chunks_of(volume, first + 1, end, 1)
        return found[0] if found else None

    def chunks_of(self, volume: int, first: int, end: int, most: int = CHUNK_LIMIT) -> list[int]:
        """The first chunks, at most `most`, in [first, end) that may map anything, ascending."""
        if end - first <= _FEW_CHUNKS:
            few = range(first, end)
            return [
                chunk
                for chunk in few
                if (volume, chunk) in self.chunks or self._stored(volume, chunk) is not None
            ][:most]
        loaded = [c for v, c in self.chunks if v == volume and first <= c < end]
        stored: list[int] = []
        at = first
        while len(stored) < most and at < end:
            wanted = most - len(stored)
            found = self._index.chunks_of(volume, at, end, wanted)
            stored += (chunk for chunk in found if not self._is_dropped(volume, chunk))
            if len(found) < wanted:
                break
            at = found[-1] + 1
        return sorted({*stored, *loaded})[:most]

    def counts(self, volume: int, chunk: int) -> tuple[int, int]:
        """(objects, zeros) of a chunk."""
        table = self.chunks.get((volume, chunk)) or self._stored(volume, chunk)
        return _counts(table) if table else (0, 0)

    def first_page(self, volume: int, chunk: int, entry: int, *, hole: bool) -> int | None:
        """The first entry of the chunk from `entry` on that is a hole, or that is none."""
        table = self.chunks.get((volume, chunk))
        stored = self._stored(volume, chunk) if table is None else None
        if table is None and stored is None:
            return entry if hole else None
        objects, zeros = _counts(table if table is not None else stored)
        if objects + zeros == TABLE_ENTRIES:
            return None if hole else entry
        ids = self.lookup(volume, chunk * TABLE_ENTRIES + entry, TABLE_ENTRIES - entry)
        return next((entry + i for i, value in enumerate(ids) if (value == HOLE) == hole), None)

    def _count(self, volume: int, before: tuple[int, int], table: bytearray) -> None:
        objects, zeros = _counts(table)
        self._add_counts(volume, objects - before[0], zeros - before[1])

    def _add_counts(self, volume: int, objects: int, zeros: int) -> None:
        self.objects += objects
        self.zeros += zeros
        mapped = self.mapped(volume) + objects + zeros
        if mapped:
            self._mapped[volume] = mapped
        else:
            self._mapped.pop(volume, None)

    def begin_dropping(self) -> list[tuple[int, int, int]]:
        """The dropped ranges, (volume, first, end), for a commit that begins. More may be dropped
        until begin_commit(), which then tells all of them."""
        self._committing_dropped.extend(self._dropped)
        self._dropped = _Ranges()
        return self._committing_dropped.all()

    def begin_commit(self) -> list[tuple[int, int, bytearray | None]]:
        """The changed chunks, sealed; None for those that map nothing any more.

        Dropped ranges are to be deleted first.
        """
        self._committing, self._dirty = self._dirty, set()
        return [
            (*key, None if table_seal(self.chunks[key]) else self.chunks[key])
            for key in self._committing
        ]

    def end_commit(self, *, succeeded: bool) -> None:
        """Settles what begin_commit handed out, and keeps the clean chunks few."""
        if not succeeded:
            # What has been dropped since then is in a dropped range.
            self._dirty |= self._committing & self.chunks.keys()
            self._committing_dropped.extend(self._dropped)
            self._dropped = self._committing_dropped
        self._committing = set()
        self._committing_dropped = _Ranges()
        self.trim()

    def trim(self, tolerated: int = 0) -> None:
        """Forgets the oldest clean chunks, once more than `tolerated` are too many."""
        surplus = len(self.chunks) - len(self._dirty) - len(self._committing) - CLEAN_CHUNKS
        if surplus <= tolerated:
            return
        for key in list(self.chunks):
            if key not in self._dirty and key not in self._committing:
                del self.chunks[key]
                surplus -= 1
                if surplus <= 0:
                    break


def _counts(table: bytearray | memoryview | None) -> tuple[int, int]:
    assert table is not None
    return int.from_bytes(table[4:8], "little"), int.from_bytes(table[8:12], "little")
