"""The skeleton volume: space for literal bytes, rows, and memory that has no volume of its own."""

from difffs.engine import Engine
from difffs.errors import ImageDamaged
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.store.inode import Inode
from difffs.stored_image.pages import PageWriter

EXTENT_PAGES = 16
"""Pages that literal bytes, sizes and rows get at a time."""


class Skeleton:
    """The skeleton's space: extents are given out one after the other."""

    def __init__(self, engine: Engine, inode: Inode, writer: PageWriter) -> None:
        self._store = engine.store
        self.inode = inode
        self.writer = writer
        self.next_page = 1  # the first is the head
        self._grow()

    def _grow(self) -> None:
        with self._store.lock:
            self._store.namespace.set_size(self.inode, self.next_page * PAGE_SIZE)

    def allocate(self, pages: int) -> int:
        """The first of so many new pages."""
        first = self.next_page
        if (first + pages) * PAGE_SIZE > MAXIMUM_VOLUME_SIZE:
            raise ImageDamaged(
                "the image says of itself that it is larger than a volume can be;"
                " get it anew, or store it --as-is"
            )
        self.next_page += pages
        self._grow()
        return first


class Stream:
    """Bytes that are appended to the skeleton in extents of its own."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        self._start = 0
        self._buffer = bytearray()
        self._room = 0

    def append(self, data: memoryview | bytes) -> list[tuple[int, int]]:
        """(offset, length) of the pieces in which the bytes lie in the skeleton."""
        view, pieces = memoryview(data), []
        while view:
            if not self._room:
                self.flush()
                self._start = self._skeleton.allocate(EXTENT_PAGES) * PAGE_SIZE
                self._room = EXTENT_PAGES * PAGE_SIZE
            count = min(len(view), self._room)
            pieces.append((self._start + len(self._buffer), count))
            self._buffer += view[:count]
            self._room -= count
            view = view[count:]
        return pieces

    def append_whole(self, data: bytes) -> int:
        """The offset of the bytes, at most an extent, in one piece."""
        if len(data) > self._room:
            self.flush()
            self._start = self._skeleton.allocate(EXTENT_PAGES) * PAGE_SIZE
            self._room = EXTENT_PAGES * PAGE_SIZE
        return self.append(data)[0][0]

    def flush(self) -> None:
        """Writes what there is, which ends the extent."""
        if self._buffer:
            self._buffer += bytes(-len(self._buffer) % PAGE_SIZE)
            pages, self._buffer = self._buffer, bytearray()
            self._skeleton.writer.write_pages(
                self._skeleton.inode.number, self._start // PAGE_SIZE, pages
            )
        self._room = 0
