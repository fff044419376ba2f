"""Memory images read front to back in large pieces."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from difffs.page import PAGE_SIZE

BATCH_BYTES = 8 << 20
"""Several batches of the engine: with two workers one is classified while another is packed."""


class ImageReader:
    """An open image or pipe, read once."""

    def __init__(self, file: int, size: int, *, ahead: bool = False) -> None:
        """Takes over the descriptor of a regular file or device of `size` bytes, or a pipe (0).

        `ahead`: a thread reads the next batch while the caller works on this one.
        """
        self._file = file
        self._size = size
        self._ahead = ahead

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def batches(self) -> Iterator[tuple[int, memoryview]]:
        """Iterates over (offset, bytes); offsets are multiples of the page, holes left out.

        The bytes are valid until the next step. Only the last batch can end within a page.
        """
        if not self._ahead:
            buffer = memoryview(bytearray(BATCH_BYTES))
            offset = 0
            while batch := self._read(buffer, offset):
                yield batch
                offset = batch[0] + len(batch[1])
            return
        buffers = [memoryview(bytearray(BATCH_BYTES)) for _ in range(2)]
        with ThreadPoolExecutor(1, "difffs-image") as thread:
            coming: Future[tuple[int, memoryview] | None]
            coming = thread.submit(self._read, buffers[0], 0)
            while batch := coming.result():
                buffers.reverse()
                coming = thread.submit(self._read, buffers[0], batch[0] + len(batch[1]))
                yield batch

    def _read(self, buffer: memoryview, offset: int) -> tuple[int, memoryview] | None:
        """The next data at or behind `offset`; None at the end."""
        if offset % PAGE_SIZE:
            return None  # the batch before ended within a page
        limit = len(buffer)
        if self._size:
            offset, limit = self._next_data(offset)
            if not limit:
                return None
            os.lseek(self._file, offset, os.SEEK_SET)
        length = self._fill(buffer[:limit])
        return (offset, buffer[:length]) if length else None

    def _fill(self, buffer: memoryview) -> int:
        length = 0
        while length < len(buffer):
            count = os.readv(self._file, [buffer[length:]])
            if not count:
                break
            length += count
        return length

    def _next_data(self, offset: int) -> tuple[int, int]:
        """(offset, length) of the next batch of data; length 0 at the end."""
        if offset >= self._size:
            return offset, 0
        try:
            data = os.lseek(self._file, offset, os.SEEK_DATA)
            hole = os.lseek(self._file, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == 6:  # ENXIO: only a hole is left
                return self._size, 0
            return offset, min(BATCH_BYTES, self._size - offset)  # a device: no holes
        data -= data % PAGE_SIZE
        hole = min(self._size, hole + -hole % PAGE_SIZE)
        return data, min(BATCH_BYTES, hole - data)
