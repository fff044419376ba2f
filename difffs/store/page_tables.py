"""Page tables: which object each page of a volume is, in chunks of 1,016 pages.

A chunk is a 16-byte prefix {checksum, objects, zeros, 0} and 4-byte object ids; 0 is a hole (never
written or punched) and 255 a page of zeros. Chunks that map nothing are not stored.
"""

from array import array
from collections.abc import Iterator

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


class PageTables:
    """The chunks in memory over those in the index. The store's lock guards all of it."""

    def __init__(self, index: Index) -> None:
        """Nothing is loaded yet."""
        self._index = index
        self.chunks: dict[tuple[int, int], bytearray] = {}
        """Those in memory, by (volume, chunk); to be looked at only."""
        self._dirty: set[tuple[int, int]] = set()
        self._committing: set[tuple[int, int]] = set()
        self.released = array("I")
        """Objects that pages no longer refer to; the store takes the references back."""
        self.objects = 0
        """Pages that are objects."""
        self.zeros = 0
        """Pages written as zeros."""
        self._mapped: dict[int, int] = {}
        for volume, chunk, stored in index.tables():
            try:
                objects, zeros = table_counts(stored)
            except ValueError as error:
                raise CorruptStore(
                    f"{index.path}: chunk {chunk} of the page table of volume {volume} is damaged"
                    f" ({error}); run `difffs check` and restore the store from a copy"
                ) from None
            self.objects += objects
            self.zeros += zeros
            self._mapped[volume] = self._mapped.get(volume, 0) + objects + zeros

    def mapped(self, volume: int) -> int:
        """Pages of the volume that are not holes."""
        return self._mapped.get(volume, 0)

    @property
    def dirty_count(self) -> int:
        """Chunks that no finished commit holds as they are now."""
        return len(self._dirty | self._committing)

    def chunk(self, volume: int, chunk: int) -> bytearray | None:
        """A chunk to look at, or None when it maps nothing."""
        return self.chunks.get((volume, chunk)) or self._load(volume, chunk)

    def _load(self, volume: int, chunk: int) -> bytearray | None:
        key = (volume, chunk)
        table = self.chunks.get(key)
        if table is None:
            stored = self._index.table(volume, chunk)
            if stored is None:
                return None
            table_counts(stored)  # raises on a damaged chunk
            table = self.chunks[key] = bytearray(stored)
        return table

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
        """Makes pages [first, first + count) holes or zeros; their objects are released."""
        end = first + count
        if value == HOLE:
            chunks: Iterator[int] = iter(self.chunks_of(volume, first, end))
        else:
            chunks = iter(range(first // TABLE_ENTRIES, (end - 1) // TABLE_ENTRIES + 1))
        for chunk in chunks:
            begin = max(first, chunk * TABLE_ENTRIES)
            stop = min(end, (chunk + 1) * TABLE_ENTRIES)
            if begin >= stop:
                continue
            table = self._load_to_change(volume, chunk)
            before = _counts(table)
            table_fill(table, begin % TABLE_ENTRIES, stop - begin, value, self.released)
            self._count(volume, before, table)

    def chunks_of(self, volume: int, first: int = 0, end: int = 1 << 62) -> list[int]:
        """Chunks of the volume that exist and overlap pages [first, end)."""
        low = first // TABLE_ENTRIES
        stored = set(self._index.chunks_of(volume, low))
        stored.update(c for v, c in self.chunks if v == volume and c >= low)
        return sorted(chunk for chunk in stored if chunk * TABLE_ENTRIES < end)

    def _count(self, volume: int, before: tuple[int, int], table: bytearray) -> None:
        objects, zeros = _counts(table)
        self.objects += objects - before[0]
        self.zeros += zeros - before[1]
        mapped = self.mapped(volume) + objects + zeros - sum(before)
        if mapped:
            self._mapped[volume] = mapped
        else:
            self._mapped.pop(volume, None)

    def begin_commit(self) -> list[tuple[int, int, bytearray | None]]:
        """The changed chunks, sealed; None for those that map nothing any more."""
        self._committing, self._dirty = self._dirty, set()
        return [
            (*key, None if table_seal(self.chunks[key]) else self.chunks[key])
            for key in self._committing
        ]

    def end_commit(self, *, succeeded: bool) -> None:
        """Settles what begin_commit handed out, and keeps the clean chunks few."""
        if not succeeded:
            self._dirty |= self._committing
        self._committing = set()
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


def _counts(table: bytearray) -> tuple[int, int]:
    return int.from_bytes(table[4:8], "little"), int.from_bytes(table[8:12], "little")
