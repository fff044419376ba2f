"""Stored images: what they are, and the files that they make up."""

from collections.abc import Callable
from typing import Any

from difffs.errors import CorruptStore
from difffs.images.composed import ComposedFile
from difffs.images.layout import Layout
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.stored_image.head import description, unpack_head
from difffs.stored_image.pages import read_bytes

ReadVolume = Callable[[int, int, memoryview], None]
"""(inode number, offset, out): fills out with bytes of a volume."""


class StoredImage:
    """An image of a store, as its head tells."""

    def __init__(self, inode: Inode, head: dict[str, Any], read: "ReadVolume") -> None:
        self.inode = inode
        self.head = head
        self._read = read

    @property
    def digest(self) -> str:
        """xxh3-128 of the file."""
        return str(self.head["digest"])

    @property
    def packed(self) -> dict[str, Any] | None:
        """How the file was compressed when it was given, None when it was not: compression, start,
        replaced (offset, hexadecimal), digest and size."""
        packed: dict[str, Any] | None = self.head["packed"]
        return packed

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The blocks of memory: name, length, volume (memory or skeleton), offset."""
        blocks: list[dict[str, Any]] = self.head["blocks"]
        return blocks

    def read_block(self, block: dict[str, Any], offset: int, out: memoryview) -> None:
        """Fills out with bytes of a block."""
        memory = block["volume"] == "memory"
        volume = self.inode.memory if memory else self.inode.skeleton
        self._read(volume, block["offset"] + offset, out)

    def file(self) -> ComposedFile:
        """The file, to be read anywhere."""

        def skeleton(offset: int, out: memoryview) -> None:
            self._read(self.inode.skeleton, offset, out)

        def memory(offset: int, out: memoryview) -> None:
            self._read(self.inode.memory, offset, out)

        def layout(record: dict[str, Any]) -> Layout:
            extents = [(int(first), int(pages)) for first, pages in record["extents"]]
            return Layout(int(record["rows"]), int(record["size"]), extents, skeleton)

        inner = ComposedFile(layout(self.head["layout"]), skeleton, memory)
        if self.head["container"] is None:
            return inner
        return ComposedFile(layout(self.head["container"]), skeleton, memory, inner)


def open_image(inode: Inode, read: ReadVolume) -> StoredImage:
    """An image of a store. CorruptStore when its skeleton has no head, or one that cannot be;
    FormatTooNew for a later difffs' one."""
    first = memoryview(bytearray(PAGE_SIZE))
    read(inode.skeleton, 0, first)
    length, offset = unpack_head(first)
    text = memoryview(bytearray(length))
    read(inode.skeleton, offset, text)
    return StoredImage(inode, description(bytes(text)), read)


def volume_reader(store: Store) -> ReadVolume:
    """Reads bytes of an open store's volumes, without a mount."""

    def read(number: int, offset: int, out: memoryview) -> None:
        if offset + len(out) > MAXIMUM_VOLUME_SIZE:
            raise CorruptStore(
                f"the image's layout names bytes at {offset:,} of a volume, which no volume has:"
                " run `difffs check`"
            )

        def pages(first: int, into: memoryview) -> None:
            store.read_pages(number, first, len(into) // PAGE_SIZE, into)

        read_bytes(pages, offset, out)

    return read
