"""The guest's memory alone, written into a sparse file: for programs that read raw images."""

import errno
import os

from difffs.images.assembly import Block, Packing, Told
from difffs.linux import punch_hole
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE

_ZEROS = bytes(1 << 20)
_ZERO_PAGE = bytes(PAGE_SIZE)


class MemoryFile(Told):
    """An ``Assembly`` that writes the guest's memory into a file, each byte at its address.

    Pages of zeros are holes, and so is what nothing is said about. Nothing else of the image is
    kept: neither what covers the file's bytes nor other blocks of memory. The guest's memory is the
    block that a store would take for it: the one that the first blocks were told with.
    """

    def __init__(self, file: int, name: str) -> None:
        """`file` is the descriptor of an empty regular file, and stays the caller's; `name` is the
        image's, for errors. Every call about memory can raise ``OSError`` of the file.
        """
        super().__init__(name)
        self.compression: str | None = None
        """What the image is compressed by, the outermost; None for one that is not."""
        self.length = 0
        """Bytes of the memory, and of the file."""
        self._file = file
        self._memory: Block = -1
        self._memory_name = ""
        self._written_end = 0
        """Where the last of the bytes ends that were ever written: all behind it is a hole."""

    # ---- facts -------------------------------------------------------------------------------

    def packed(
        self, compression: str, start: int, replaced: list[tuple[int, bytes]], like: bytes = b""
    ) -> None:
        """See ``Assembly``. What is compressed inside of something compressed is memory as well."""
        if self.compression is None:
            self.compression = compression

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        """See ``Assembly``."""
        self._memory = memory
        self._memory_name, length = blocks[memory]
        self._set_length(length)

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        """See ``Assembly``. What was the guest's memory stays that."""
        if memory != self._memory:
            self.stays_memory(self._memory_name)

    def grow(self, block: Block, length: int) -> None:
        """See ``Assembly``."""
        if block == self._memory:
            if length < self.length:
                raise ValueError("blocks never shrink")
            self._set_length(length)

    def _set_length(self, length: int) -> None:
        if not 0 <= length <= MAXIMUM_VOLUME_SIZE:
            raise self.damaged(f"its memory has {length:,} bytes")
        os.ftruncate(self._file, length)
        self.length = length

    # ---- memory ------------------------------------------------------------------------------

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        """See ``Assembly``. What was given before is replaced."""
        if not self._is_kept(block, offset, len(data)):
            return
        view = memoryview(data)
        start, zeros = 0, False
        at = 0
        while at < len(view):
            end = min(len(view), at + PAGE_SIZE - (offset + at) % PAGE_SIZE)
            part = bytes(view[at:end])
            are_zeros = part == (_ZERO_PAGE if len(part) == PAGE_SIZE else bytes(len(part)))
            if are_zeros is not zeros:
                self._put(offset + start, view[start:at], zeros=zeros)
                start, zeros = at, are_zeros
            at = end
        self._put(offset + start, view[start:], zeros=zeros)

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        """See ``Assembly``."""
        self.memory(block, offset, data)

    def page_records(
        self, block: Block, offset: int, first: int, pages: memoryview | bytes
    ) -> None:
        """See ``Assembly``."""
        self.memory(block, offset, pages)

    def packed_pages(
        self,
        packing: Packing,
        block: Block,
        offset: int,
        pages: memoryview | bytes,
        sizes: list[int],
    ) -> None:
        """See ``Assembly``."""
        self.memory(block, offset, pages)

    def zero_records(self, block: Block, offset: int, first: int, count: int) -> None:
        """See ``Assembly``."""
        self.zero_memory(block, offset, count * PAGE_SIZE)

    def zero_memory(self, block: Block, offset: int, length: int) -> None:
        """See ``Assembly``."""
        if self._is_kept(block, offset, length):
            self._clear(offset, offset + length)

    def _is_kept(self, block: Block, offset: int, length: int) -> bool:
        if block != self._memory:
            return False
        if offset < 0 or offset + length > self.length:
            raise self.damaged(f"it has memory at {offset:,}, behind its {self.length:,} bytes")
        return True

    def _put(self, offset: int, data: memoryview, *, zeros: bool) -> None:
        end = offset + len(data)
        if zeros:
            self._clear(offset, end)
            return
        self._written_end = max(self._written_end, end)
        self._write(offset, data)

    def _clear(self, start: int, end: int) -> None:
        end = min(end, self._written_end)
        if start >= end:
            return
        try:
            punch_hole(self._file, start, end - start)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            for at in range(start, end, len(_ZEROS)):  # a file system that knows no holes
                self._write(at, memoryview(_ZEROS)[: end - at])

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    # ---- what is not kept --------------------------------------------------------------------

    def literal(self, data: memoryview | bytes) -> None:
        """See ``Assembly``."""

    def zeros(self, count: int) -> None:
        """See ``Assembly``."""

    def descriptors(self, offsets_from: int, sizes: list[int], flags: int) -> None:
        """See ``Assembly``."""

    def repeated(self, data: bytes, count: int) -> None:
        """See ``Assembly``."""

    def begin_container(self) -> None:
        """See ``Assembly``."""

    def at(self, position: int) -> None:
        """See ``Assembly``."""

    def container_literal(self, data: memoryview | bytes) -> None:
        """See ``Assembly``."""

    def container_inner(self, offset: int, length: int) -> None:
        """See ``Assembly``."""

    def container_record(self, offset: int, length: int) -> None:
        """See ``Assembly``."""

    def container_zeros(self, count: int) -> None:
        """See ``Assembly``."""
