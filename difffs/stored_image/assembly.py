"""Storing an image: what a reader tells becomes pages and rows."""

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any

from difffs.engine import Engine
from difffs.errors import UsageError
from difffs.images.assembly import Block, Packing, Told
from difffs.images.layout import Kind, Row, Volume
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE, page_count
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.store.page_tables import ZERO
from difffs.stored_image.head import ROOM, pack_head
from difffs.stored_image.pages import (
    APART,
    FROM_ROW,
    MARK_PAGES,
    STAGED_PAGES,
    PageMarks,
    PageWriter,
)
from difffs.stored_image.rows import Rows
from difffs.stored_image.skeleton import Skeleton, Stream

_VERSION = 1

_LARGE = 64 << 10
"""Literal bytes that get pages of their own, aligned as in the file: they may be a disk's."""

_PACKED_PAGES = 64
"""Pages of a row of packed ones: what has to be compressed for a read of any of them."""

_DESCRIPTORS = 4096

MAXIMUM_BLOCKS = 4096
"""Blocks of memory that an image can have."""


class BlockPlace:
    """Where a block of memory lies."""

    __slots__ = ("base", "length", "marks", "name", "volume")

    def __init__(self, name: str, length: int, volume: Volume, base: int) -> None:
        self.name = name
        self.length = length
        self.volume = volume
        self.base = base
        self.marks = PageMarks()


class StoredAssembly(Told):
    """An ``Assembly`` that stores an image. The volumes are orphans until somebody links them: a
    process that is killed leaves nothing behind."""

    def __init__(
        self, engine: Engine, name: str, mode: int, uid: int, gid: int, domain: int = 0
    ) -> None:
        """`name` is for errors; the files get the mode, and belong to the domain."""
        super().__init__(name)
        self.engine = engine
        self.store: Store = engine.store
        self.size = 0
        """Of the image, after finish()."""
        with self.store.lock:
            names = self.store.namespace
            self.image = names.create_orphan(mode, uid, gid, domain)
            self.memory_volume = names.create_orphan(mode, uid, gid, domain)
            self._skeleton_volume = names.create_orphan(mode, uid, gid, domain)
        self._writer = PageWriter(engine)
        self._skeleton = Skeleton(engine, self._skeleton_volume, self._writer)
        self._literals = Stream(self._skeleton)
        self._sizes = Stream(self._skeleton)
        self._rows = Rows(self._skeleton)
        self._outer: Rows | None = None
        self._blocks: list[BlockPlace] = []
        self._main = 0
        self.packed_as: dict[str, Any] | None = None
        """How it is compressed, if it is: compression, start, replaced, like, digest, size."""
        # Literal bytes with pages of their own: where the last of them end, in file and skeleton.
        self._large_end = (-1, -1)
        # Latest content of pages that a row has named before: page of the skeleton, by page.
        self._latest: dict[tuple[int, int], array[int]] = {}

    def inodes(self) -> list[Inode]:
        """The orphans that it has made and that have not been removed: the image's last."""
        made = (self._skeleton_volume, self.memory_volume, self.image)
        if self.image.is_image:  # its parts go with it
            return [self.image]
        return list(made)

    # ---- what a reader tells -----------------------------------------------------------------

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        """See ``Assembly``."""
        if len(blocks) > MAXIMUM_BLOCKS:
            raise self.damaged(f"it has {len(blocks):,} blocks of memory")
        self._main = memory
        for index, (name, length) in enumerate(blocks):
            self._blocks.append(self._new_block(name, length, main=index == memory))

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        """See ``Assembly``. What was the guest's memory stays that: its pages are in the volume."""
        if len(self._blocks) + len(blocks) > MAXIMUM_BLOCKS:
            raise self.damaged("it has too many blocks of memory")
        for name, length in blocks:
            self._blocks.append(self._new_block(name, length, main=False))
        if memory != self._main:
            self.stays_memory(self._blocks[self._main].name)

    def _new_block(self, name: str, length: int, *, main: bool) -> BlockPlace:
        if not 0 <= length <= MAXIMUM_VOLUME_SIZE:
            raise self.damaged(f"its memory {name!r} has {length:,} bytes")
        if main:
            with self.store.lock:
                self.store.namespace.set_size(self.memory_volume, length)
            return BlockPlace(name, length, Volume.MEMORY, 0)
        first = self._skeleton.allocate(page_count(length))
        return BlockPlace(name, length, Volume.SKELETON, first * PAGE_SIZE)

    def grow(self, block: Block, length: int) -> None:
        """See ``Assembly``."""
        place = self._blocks[block]
        if place.volume is not Volume.MEMORY or length < place.length:
            raise ValueError("only the guest's memory can grow")
        if length > MAXIMUM_VOLUME_SIZE:
            raise self.damaged(f"its memory {place.name!r} has {length:,} bytes")
        place.length = length
        with self.store.lock:
            self.store.namespace.set_size(self.memory_volume, length)

    def at(self, position: int) -> None:
        """See ``Assembly``."""
        self._rows.position = position

    def literal(self, data: memoryview | bytes) -> None:
        """See ``Assembly``."""
        self._keep(self._rows, data)

    def _keep(self, rows: Rows, data: memoryview | bytes) -> None:
        position, offset = self._large_end
        goes_on = rows.position == position and page_count(offset) == self._skeleton.next_page
        if len(data) < _LARGE and not goes_on:
            for offset, length in self._literals.append(data):
                rows.add(length, Kind.COPY, Volume.SKELETON, offset, length)
            return
        if goes_on:
            more = page_count(offset + len(data)) - self._skeleton.next_page
            if more > 0:
                self._skeleton.allocate(more)
        else:
            residue = rows.position % PAGE_SIZE
            first = self._skeleton.allocate(page_count(residue + len(data)))
            offset = first * PAGE_SIZE + residue
        self._writer.write(self._skeleton_volume.number, offset, data)
        rows.add(len(data), Kind.COPY, Volume.SKELETON, offset, len(data))
        self._large_end = rows.position, offset + len(data)

    def zeros(self, count: int) -> None:
        """See ``Assembly``."""
        self._rows.add(count, Kind.ZEROS, second=count)

    def _place(self, block: Block, offset: int, length: int) -> BlockPlace:
        place = self._blocks[block]
        if offset < 0 or offset + length > place.length:
            raise self.damaged(
                f"it has memory {place.name!r} at {offset:,}, behind its {place.length:,} bytes"
            )
        return place

    def _volume_number(self, volume: Volume) -> int:
        inode = self.memory_volume if volume is Volume.MEMORY else self._skeleton_volume
        return inode.number

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        """See ``Assembly``."""
        place = self._place(block, offset, len(data))
        source = place.base + offset
        self._writer.write(self._volume_number(place.volume), source, data)
        self._rows.add(len(data), Kind.COPY, place.volume, source, len(data))

    def page_records(
        self, block: Block, offset: int, first: int, pages: memoryview | bytes
    ) -> None:
        """See ``Assembly``."""
        place = self._place(block, offset, len(pages))
        view = memoryview(pages)
        page, at = offset // PAGE_SIZE, 0
        for start, count, again in place.marks.runs(page, len(view) // PAGE_SIZE):
            data = view[at : at + count * PAGE_SIZE]
            if again:
                kept = self._supersede(place, start, count)
                self._writer.write_pages(self._skeleton_volume.number, kept, data)
                volume, source = Volume.SKELETON, kept * PAGE_SIZE
            else:
                volume, source = place.volume, place.base + start * PAGE_SIZE
                self._writer.write_pages(
                    self._volume_number(place.volume), source // PAGE_SIZE, data
                )
            self._rows.add(
                count * (8 + PAGE_SIZE), Kind.PAGE_RECORDS, volume, source, first + at, count
            )
            at += count * PAGE_SIZE
        place.marks.mark(page, len(view) // PAGE_SIZE, FROM_ROW)

    def zero_records(self, block: Block, offset: int, first: int, count: int) -> None:
        """See ``Assembly``."""
        self._place(block, offset, count * PAGE_SIZE)
        self.zero_memory(block, offset, count * PAGE_SIZE)
        self._rows.add(count * 9, Kind.ZERO_RECORDS, second=first, times=count)

    def packed_pages(
        self,
        packing: Packing,
        block: Block,
        offset: int,
        pages: memoryview | bytes,
        sizes: list[int],
    ) -> None:
        """See ``Assembly``."""
        if packing is not Packing.ZLIB_1:
            raise ValueError(f"pages packed by {packing}")
        place = self._place(block, offset, len(pages))
        source = place.base + offset
        self._writer.write(self._volume_number(place.volume), source, pages)
        for at in range(0, len(sizes), _PACKED_PAGES):
            some = sizes[at : at + _PACKED_PAGES]
            kept = self._sizes.append_whole(array("H", some).tobytes())
            self._rows.add(
                sum(some),
                Kind.PACKED_ZLIB_1,
                place.volume,
                source + at * PAGE_SIZE,
                kept,
                len(some),
            )

    def descriptors(self, offsets_from: int, sizes: list[int], flags: int) -> None:
        """See ``Assembly``."""
        for at in range(0, len(sizes), _DESCRIPTORS):
            some = sizes[at : at + _DESCRIPTORS]
            kept = self._sizes.append_whole(array("H", some).tobytes())
            self._rows.add(24 * len(some), Kind.DESCRIPTORS, flags, offsets_from, kept, len(some))
            offsets_from += sum(some)

    def repeated(self, data: bytes, count: int) -> None:
        """See ``Assembly``."""
        kept = self._literals.append_whole(data)
        self._rows.add(len(data) * count, Kind.REPEATED, Volume.SKELETON, kept, len(data), count)

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        """See ``Assembly``."""
        place = self._place(block, offset, len(data))
        first, count = offset // PAGE_SIZE, page_count(offset % PAGE_SIZE + len(data))
        view, at = memoryview(data), 0
        for start, pages, again in place.marks.runs(first, count):
            end = min(len(view), (start + pages) * PAGE_SIZE - offset)
            if not again:
                source = place.base + offset + at
                self._writer.write(self._volume_number(place.volume), source, view[at:end])
            else:
                kept = self._supersede(place, start, pages, keep=True) * PAGE_SIZE
                into = kept + (offset + at) % PAGE_SIZE
                self._writer.write(self._skeleton_volume.number, into, view[at:end])
            at = end
        for start, pages, again in list(place.marks.runs(first, count)):
            if not again:
                place.marks.mark(start, pages, APART)

    def zero_memory(self, block: Block, offset: int, length: int) -> None:
        """See ``Assembly``."""
        place = self._place(block, offset, length)
        for start, count, again in place.marks.runs(offset // PAGE_SIZE, length // PAGE_SIZE):
            if again:
                self._supersede(place, start, count)  # by a hole
            elif place.volume is Volume.MEMORY or place.marks.any(start, count):
                first = place.base // PAGE_SIZE + start
                volume = self._volume_number(place.volume)
                self._writer.flush_pages(volume, first, count)
                self.store.fill(volume, first, count, ZERO)

    def _supersede(self, place: BlockPlace, first: int, count: int, *, keep: bool = False) -> int:
        """The first of new pages of the skeleton for what pages hold from here on that a row has
        named before; `keep`: with what they hold now."""
        kept = self._skeleton.allocate(count)
        block = self._blocks.index(place)
        for page in range(first, first + count):
            chunk, at = divmod(page, MARK_PAGES)
            latest = self._latest.get((block, chunk))
            if latest is None:
                latest = self._latest[block, chunk] = array("I", bytes(4 * MARK_PAGES))
            if keep:
                content = bytearray(PAGE_SIZE)
                if latest[at]:
                    self._writer.read(self._skeleton_volume.number, latest[at], content)
                else:
                    volume = self._volume_number(place.volume)
                    self._writer.read(volume, place.base // PAGE_SIZE + page, content)
                self._writer.write_pages(self._skeleton_volume.number, kept + page - first, content)
            latest[at] = kept + page - first
        return kept

    def packed(
        self, compression: str, start: int, replaced: list[tuple[int, bytes]], like: bytes = b""
    ) -> None:
        """See ``Assembly``."""
        if self.packed_as is not None:
            raise UsageError(
                f"image {self.name} is compressed twice: unpack it once, and import that"
            )
        self.packed_as = {
            "compression": compression,
            "start": start,
            "replaced": [[offset, data.hex()] for offset, data in replaced],
            "like": like.hex(),
        }

    # ---- containers --------------------------------------------------------------------------

    def begin_container(self) -> None:
        """See ``Assembly``."""
        if self._rows.size:
            raise ValueError("a container begins before anything is covered")
        self._outer = Rows(self._skeleton)

    @property
    def _container(self) -> Rows:
        if self._outer is None:
            raise ValueError("there is no container")
        return self._outer

    def container_literal(self, data: memoryview | bytes) -> None:
        """See ``Assembly``."""
        self._keep(self._container, data)

    def container_inner(self, offset: int, length: int) -> None:
        """See ``Assembly``."""
        self._container.add(length, Kind.INNER, 0, offset, length)

    def container_record(self, offset: int, length: int) -> None:
        """See ``Assembly``."""
        self._container.add(16 + length, Kind.INNER_RECORD, 0, offset, length)

    def container_zeros(self, count: int) -> None:
        """See ``Assembly``."""
        self._container.add(count, Kind.ZEROS, second=count)

    # ---- the end -----------------------------------------------------------------------------

    def finish(self, digest: str, packed_digest: str | None = None, packed_size: int = 0) -> None:
        """Writes the rest, and makes the image of its parts: still without a name. `digest` is that
        of the (unpacked) file; the packed one's is kept for those who pack it again."""
        if not self._blocks:
            self.blocks([("memory", 0)], 0)
        self._writer.flush()
        self._literals.flush()
        self._sizes.flush()
        self._rows.finish()
        if self._latest:
            self._bring_up_to_date()
        if self._outer is not None:
            self._outer.finish()
        file = self._rows if self._outer is None else self._outer
        self.size = file.size
        if self.packed_as is not None:
            self.packed_as |= {"digest": packed_digest, "size": packed_size}
        head = {
            "version": _VERSION,
            "digest": digest,
            "details": self.facts,
            "notes": self.notes,
            "blocks": [
                {
                    "name": place.name,
                    "length": place.length,
                    "volume": place.volume.name.lower(),
                    "offset": place.base,
                }
                for place in self._blocks
            ],
            "memory": self._main,
            "layout": _layout_record(self._rows),
            "container": None if self._outer is None else _layout_record(self._outer),
            "packed": self.packed_as,
        }
        self._write_head(json.dumps(head, separators=(",", ":"), default=str).encode())
        self._writer.flush()
        with self.store.lock:
            self.store.namespace.make_image(
                self.image.number,
                self.size,
                self._skeleton_volume.number,
                self.memory_volume.number,
            )

    def _write_head(self, text: bytes) -> None:
        number, page = self._skeleton_volume.number, 0
        if len(text) > ROOM:
            page = self._skeleton.allocate(page_count(len(text)))
            self._writer.write(number, page * PAGE_SIZE, text + bytes(-len(text) % PAGE_SIZE))
        self._writer.write(number, 0, pack_head(text, page))

    def _bring_up_to_date(self) -> None:
        """Has the memory hold what came last; what came before moves to the skeleton."""
        skeleton = self._skeleton_volume.number
        moved: dict[tuple[int, int], array[int]] = {}
        pages = self._superseded(moved)
        while some := list(islice(pages, STAGED_PAGES)):
            old = memoryview(bytearray(len(some) * PAGE_SIZE))
            new = memoryview(bytearray(len(some) * PAGE_SIZE))
            outs = [slice(at, at + PAGE_SIZE) for at in range(0, len(old), PAGE_SIZE)]
            for out, (volume, page, latest, at) in zip(outs, some, strict=True):
                self._writer.read(volume, page, old[out])
                self._writer.read(skeleton, latest[at], new[out])
            kept = self._skeleton.allocate(len(some))
            self._writer.write_pages(skeleton, kept, old)
            for out, (volume, page, latest, at) in zip(outs, some, strict=True):
                latest[at] = kept
                kept += 1
                self._writer.write_pages(volume, page, new[out])
            self._writer.flush()
        self._rows.rewrite(self._moved_rows(moved))

    def _superseded(
        self, moved: dict[tuple[int, int], "array[int]"]
    ) -> Iterator[tuple[int, int, "array[int]", int]]:
        """The pages that came again: volume, page of that, and where their latest content is told,
        which is where the old one's place is to be told. All these places come to be in `moved`,
        by volume and first page."""
        for (block, chunk), latest in self._latest.items():
            place = self._blocks[block]
            first = place.base // PAGE_SIZE + chunk * MARK_PAGES
            moved[place.volume, first] = latest
            volume = self._volume_number(place.volume)
            for at in [at for at, kept in enumerate(latest) if kept]:
                yield volume, first + at, latest, at

    def _moved_rows(self, moved: dict[tuple[int, int], "array[int]"]) -> Iterator[Row]:
        """The rows, with the pages that have moved where they are now."""
        starts = {volume: sorted(p for v, p in moved if v == volume) for volume in Volume}

        def place_of(volume: int, page: int) -> int:
            # Of a short block the array goes on where the next block lies: the last start counts.
            some = starts[Volume(volume)]
            index = bisect_right(some, page) - 1
            if index < 0 or page >= some[index] + MARK_PAGES:
                return 0
            return moved[Volume(volume), some[index]][page - some[index]]

        for row in self._rows.rows():
            if row.kind != Kind.PAGE_RECORDS:
                yield row
                continue
            first = row.source // PAGE_SIZE
            at = 0
            while at < row.times:
                place = place_of(row.volume, first + at)
                end = at + 1
                while end < row.times:
                    other = place_of(row.volume, first + end)
                    if other != (place + end - at if place else 0):
                        break
                    end += 1
                yield Row(
                    row.position + at * (8 + PAGE_SIZE),
                    row.kind,
                    Volume.SKELETON if place else row.volume,
                    place * PAGE_SIZE if place else row.source + at * PAGE_SIZE,
                    row.second + at * PAGE_SIZE,
                    end - at,
                )
                at = end


def _layout_record(rows: Rows) -> dict[str, Any]:
    return {"size": rows.size, "rows": rows.count, "extents": rows.extents}
