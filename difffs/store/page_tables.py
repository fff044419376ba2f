"""Page tables: which object each page of a volume is, in chunks of 1,016 pages.

A chunk is a 16-byte prefix {0, objects and lost, zeros, lost} and 4-byte object ids; 0 is a hole
(never written or punched), 255 a page of zeros, and 254 one whose content is lost. Chunks that map
nothing are not stored.

Long runs of chunks that become holes are kept as *dropped ranges* until they are committed: they
are deleted without being loaded, so that removing a large volume takes no memory.
"""

import time
from array import array
from bisect import bisect_left, bisect_right

from difffs._kernels import TABLE_ENTRIES, TableChunks, table_counts
from difffs.errors import CorruptStore
from difffs.store.index import Index

HOLE = 0
LOST = 254
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
    """The chunks in memory over those in the index. The store's lock guards all of it; what answers
    for open volumes changes chunks in memory, too, with the page lock (native/volume_pages.h)."""

    def __init__(self, index: Index) -> None:
        """Nothing is loaded yet."""
        self._index = index
        self.chunks = TableChunks()
        """Those in memory, with the ids that pages no longer refer to."""
        # Of chunks in these, the index has what is no longer true; one that maps anything again
        # is in `chunks` and changed.
        self._dropped = _Ranges()
        self._committing_dropped = _Ranges()
        for volume, counts in index.chunk_counts():
            self.chunks.count(volume, *counts)

    def mapped(self, volume: int) -> int:
        """Pages of the volume that are not holes."""
        return self.chunks.mapped(volume)

    @property
    def dirty_count(self) -> int:
        """Chunks that no finished commit holds as they are now."""
        return self.chunks.changed + self._dropped.chunks + self._committing_dropped.chunks

    def load(self, volume: int, chunk: int) -> bool:
        """Brings a chunk into memory; False when it maps nothing, and is not."""
        if not self.chunks.has(volume, chunk):
            stored = self._stored(volume, chunk)
            if stored is None:
                return False
            self._counts_of(stored, volume, chunk)
            self.chunks.bring(volume, chunk, stored)
        return True

    def load_to_map(self, volume: int, chunk: int) -> None:
        """Brings a chunk into memory, so that its pages can be mapped."""
        if not self.load(volume, chunk):
            self.chunks.bring(volume, chunk, None)

    def _stored(self, volume: int, chunk: int) -> memoryview | None:
        """The index's bytes of a chunk that is not in memory; None when it maps nothing."""
        if self._is_dropped(volume, chunk):
            return None
        return self._index.table(volume, chunk)

    def _is_dropped(self, volume: int, chunk: int) -> bool:
        return self._dropped.contains(volume, chunk) or self._committing_dropped.contains(
            volume, chunk
        )

    def _counts_of(self, stored: memoryview, volume: int, chunk: int) -> tuple[int, int, int]:
        """(objects, zeros, lost) of a stored chunk; CorruptStore when it is damaged."""
        try:
            return table_counts(stored)
        except ValueError as error:
            raise CorruptStore(
                f"{self._index.path}: chunk {chunk} of the page table of volume {volume} is damaged"
                f" ({error}); run `difffs check` and restore the store from a copy"
            ) from None

    def lookup(self, volume: int, first: int, count: int) -> "array[int]":
        """Object ids of pages [first, first + count)."""
        ids = array("I", bytes(4 * count))
        at = 0
        while at < count:
            chunk, entry = divmod(first + at, TABLE_ENTRIES)
            run = min(count - at, TABLE_ENTRIES - entry)
            if self.load(volume, chunk):
                self.chunks.lookup(volume, chunk, entry, run, ids, at)
            at += run
        return ids

    def map(self, volume: int, pages: "array[int]", ids: "array[int]") -> None:
        """Maps pages (ascending, array of 'Q') to ids; their former objects are released."""
        start = 0
        while start < len(pages):
            chunk = pages[start] // TABLE_ENTRIES
            end = self._end_of_run(pages, start, (chunk + 1) * TABLE_ENTRIES)
            self.load_to_map(volume, chunk)
            self.chunks.map(volume, pages, ids, start, end)
            start = end

    @staticmethod
    def _end_of_run(pages: "array[int]", start: int, limit: int) -> int:
        """The index behind the last page below limit."""
        return len(pages) if pages[-1] < limit else bisect_left(pages, limit, start)

    def fill(self, volume: int, first: int, count: int, value: int) -> None:
        """Makes pages [first, first + count) holes or zeros; their objects are released.

        O(chunks of the range): for holes in long ranges there is :meth:`drop`.
        """
        end = first + count
        for chunk in range(first // TABLE_ENTRIES, (end - 1) // TABLE_ENTRIES + 1):
            begin = max(first, chunk * TABLE_ENTRIES)
            stop = min(end, (chunk + 1) * TABLE_ENTRIES)
            if value == HOLE and not self.load(volume, chunk):
                continue
            self.load_to_map(volume, chunk)
            self.chunks.fill(volume, chunk, begin % TABLE_ENTRIES, stop - begin, value)

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
        no more once `most_released` ids are released or the clock (time.monotonic) is past
        `deadline`, but at least one. Returns the chunk to go on with: `end` when all is done.
        O(chunks that it drops)."""
        chunks = self.chunks_of(volume, first, end, most)
        done = end if len(chunks) < most else chunks[-1] + 1
        for count, chunk in enumerate(chunks):
            late = self.chunks.released >= most_released or time.monotonic() > deadline
            if count and late:
                done = chunk
                break
            self._drop_chunk(volume, chunk)
        self._dropped.add(volume, first, done)
        return done

    def _drop_chunk(self, volume: int, chunk: int) -> None:
        if not self.load(volume, chunk):
            return
        # One that is only counted need not be dirty: the dropped range tells the commit.
        self.chunks.fill(volume, chunk, 0, TABLE_ENTRIES, HOLE)
        self.chunks.forget(volume, chunk)
        self._dropped.chunks += 1

    def next_chunk(self, volume: int, first: int, end: int) -> int | None:
        """The first chunk in [first, end) that may map anything."""
        if first < end and (self.chunks.has(volume, first) or self._stored(volume, first)):
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
                if self.chunks.has(volume, chunk) or self._stored(volume, chunk) is not None
            ][:most]
        loaded = self.chunks.chunks_of(volume, first, end)
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
        if self.chunks.has(volume, chunk):
            return self.chunks.counts(volume, chunk)[:2]
        stored = self._stored(volume, chunk)
        return (0, 0) if stored is None else self._counts_of(stored, volume, chunk)[:2]

    def first_page(self, volume: int, chunk: int, entry: int, *, hole: bool) -> int | None:
        """The first entry of the chunk from `entry` on that is a hole, or that is none."""
        objects, zeros = self.counts(volume, chunk)
        if objects + zeros == 0:
            return entry if hole else None
        if objects + zeros == TABLE_ENTRIES:
            return None if hole else entry
        ids = self.lookup(volume, chunk * TABLE_ENTRIES + entry, TABLE_ENTRIES - entry)
        return next((entry + i for i, value in enumerate(ids) if (value == HOLE) == hole), None)

    def begin_dropping(self) -> list[tuple[int, int, int]]:
        """The dropped ranges, (volume, first, end), for a commit that begins. More may be dropped
        until begin_commit(), which then tells all of them."""
        self._committing_dropped.extend(self._dropped)
        self._dropped = _Ranges()
        return self._committing_dropped.all()

    def begin_commit(self) -> list[tuple[int, int, memoryview | None]]:
        """The changed chunks; None for those that map nothing any more.

        Dropped ranges are to be deleted first. The bytes are the chunks' own: no page table may
        change until they have been copied.
        """
        return self.chunks.begin_commit()

    def end_commit(self, *, succeeded: bool) -> None:
        """Settles what begin_commit handed out, and keeps the clean chunks few."""
        self.chunks.end_commit(succeeded)
        if not succeeded:
            self._committing_dropped.extend(self._dropped)
            self._dropped = self._committing_dropped
        self._committing_dropped = _Ranges()
        self.trim()

    def trim(self, tolerated: int = 0) -> None:
        """Forgets clean chunks, once more than `tolerated` are too many."""
        if len(self.chunks) - self.chunks.changed > CLEAN_CHUNKS + tolerated:
            self.chunks.trim(CLEAN_CHUNKS)
