"""What an image is made of: the calls by which a reader tells it.

A reader calls these in the order of the file's bytes (see ``Assembly.at`` for the exception). Each
call that "covers" bytes says what the next bytes of the file are; together they cover all of it.
Calls about memory also say what a block of the guest's memory holds. A reader covers only what it
has seen: bytes that a call generates (headers of pages, compressed pages) it has compared with the
file's before.

The same calls are answered by a store (``difffs.stored_image``) and, in the tests, by a plain
in-memory twin that rebuilds file and memory.
"""

from enum import IntEnum
from typing import Any, Protocol

from difffs.errors import ImageDamaged
from difffs.page import PAGE_SIZE

LIKE_BYTES = 1024
"""Bytes from the start of compressed data that tell how it was made: level, name, time."""

Block = int
"""A block of the guest's memory, by its place in the list given to ``Assembly.blocks``."""


class Packing(IntEnum):
    """How a page that is compressed on its own was made, so that it can be made again."""

    ZLIB_1 = 1
    """``zlib.compress(page, 1)``: kdump files of QEMU and makedumpfile."""


class Told:
    """What a reader says for people: the part of an assembly that all that keep it have alike."""

    def __init__(self, name: str) -> None:
        """`name` is the image's, for errors."""
        self.name = name
        self.facts: dict[str, Any] = {}
        self.notes: list[str] = []

    def details(self, **facts: object) -> None:
        """See ``Assembly``."""
        self.facts.update(facts)

    def unusual(self, text: str) -> None:
        """See ``Assembly``."""
        if text not in self.notes:
            self.notes.append(text)

    def stays_memory(self, block: str) -> None:
        """Note that the block that came first stays the guest's memory: its pages are there."""
        self.unusual(f"the block {block!r}, which comes first, is taken for the guest's memory")

    def damaged(self, text: str) -> ImageDamaged:
        """The error of an image that tells what cannot be."""
        return ImageDamaged(
            f"image {self.name} is damaged: {text}; get it anew, or take it --as-is"
        )


class Assembly(Protocol):
    """Takes down what an image is made of."""

    def details(self, **facts: object) -> None:
        """Facts of the format for people and tools, as JSON values (``format``, ``version``, ...).
        Later calls add to earlier ones."""

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        """The blocks of memory: names and lengths in bytes; `memory` is the index of the one that
        is the guest's memory. To be called once, before any other call about memory. Bytes that
        nothing is said about are left out by the format, and read as zeros."""

    def grow(self, block: Block, length: int) -> None:
        """A block turns out to have `length` bytes, no fewer than were told before: for formats
        that tell the ranges of memory one by one (their blocks() say 0). To be called before
        memory behind the length so far is given."""

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        """Blocks that the image tells of later than of the first ones, which they come behind;
        `memory` is the index of the guest's memory as far as is known now. Any number of calls
        after blocks()."""

    # ---- what covers bytes of the file -------------------------------------------------------

    def literal(self, data: memoryview | bytes) -> None:
        """Bytes that are no memory, kept as they are."""

    def zeros(self, count: int) -> None:
        """Zero bytes; for the file's own sake, no memory. (Few are as well literal.)"""

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        """Bytes that are memory, verbatim, from `offset` of the block on. Any alignment and length;
        what continues the call before at any boundary costs nothing more. Each byte of a block is
        covered once at most, or with the same content, but for page_records()."""

    def page_records(
        self, block: Block, offset: int, first: int, pages: memoryview | bytes
    ) -> None:
        """Records of QEMU's migration stream: for each page a header of 8 bytes, big endian,
        followed by the page's 4096 bytes. `pages` are the contents one after the other. The first
        header is `first`, each further one PAGE_SIZE higher. The pages lie from `offset` (a
        multiple of the page) of the block on. A page that was given before is replaced."""

    def zero_records(self, block: Block, offset: int, first: int, count: int) -> None:
        """Records of zero pages in QEMU's migration stream: a header as above and a byte 0. The
        pages are zeros from here on, whatever was given before."""

    def packed_pages(
        self,
        packing: Packing,
        block: Block,
        offset: int,
        pages: memoryview | bytes,
        sizes: list[int],
    ) -> None:
        """Pages that the file holds compressed one by one and one after the other, each in as many
        bytes as `sizes` says (below 65,536). `pages` are the plain contents; they lie from
        `offset` (a multiple of the page) of the block on."""

    def descriptors(self, offsets_from: int, sizes: list[int], flags: int) -> None:
        """Page descriptors of a kdump file: for each size 24 bytes, little endian: offset (8; the
        first `offsets_from`, each further one higher by the size before), size (4), `flags` (4),
        page flags 0 (8)."""

    def repeated(self, data: bytes, count: int) -> None:
        """The same bytes (4,096 at most) `count` times."""

    # ---- what covers none --------------------------------------------------------------------

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        """Says what memory holds that the file has in another form (covered by literal()). Like
        page_records() it replaces what was given before."""

    def zero_memory(self, block: Block, offset: int, length: int) -> None:
        """Memory that the format says is zeros; offset and length are multiples of the page."""

    def unusual(self, text: str) -> None:
        """Something a person should know: what follows is kept, but not as well as it could be, or
        memory is incomplete. Each text once."""

    def packed(
        self, compression: str, start: int, replaced: list[tuple[int, bytes]], like: bytes = b""
    ) -> None:
        """What is covered is the *unpacked* form (see ``Source.unpack``). The file as it was given
        is that form up to `start`, with the bytes of `replaced` (offset, bytes) in it, and what
        lies behind `start` compressed by `compression` (gzip, bzip2, xz, lzop, zstd). `like` are
        the first bytes of the compressed ones (LIKE_BYTES, fewer of a shorter image), which
        ``repacking.repackings`` goes by: they tell level, name and time."""

    # ---- a file that holds the image in pieces -----------------------------------------------

    def begin_container(self) -> None:
        """From here on calls describe the *inner* file; container_*() tell how the outer one is
        made of it (flattened kdump, snapshots in qcow2). Only before anything is covered."""

    def at(self, position: int) -> None:
        """What the next calls cover lies from `position` of the inner file on: a container may hold
        the inner file's parts in any order. Only after begin_container(). No byte is covered twice;
        inner bytes that nothing covers are zeros, and no container_*() call refers to them."""

    def container_literal(self, data: memoryview | bytes) -> None:
        """Outer bytes that are none of the inner file's."""

    def container_inner(self, offset: int, length: int) -> None:
        """Outer bytes that are those of the inner file from `offset` on."""

    def container_record(self, offset: int, length: int) -> None:
        """A record of makedumpfile's flattened form: offset and length (8 bytes each, big endian),
        then those bytes of the inner file."""

    def container_zeros(self, count: int) -> None:
        """Outer zero bytes that are none of the inner file's."""


__all__ = ["LIKE_BYTES", "PAGE_SIZE", "Assembly", "Block", "Packing", "Told"]
