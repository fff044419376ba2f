"""Memory images read front to back in large pieces."""

import errno
import fcntl
import os
import select
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from difffs.errors import EnvironmentProblem, UsageError
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE

BATCH_BYTES = 8 << 20
"""Several batches of the engine: with two workers one is classified while another is packed."""

ZEROS_BYTES = 1 << 20
"""Zeros of a hole that are handed out at a time."""

STDIN = "-"


class ImageReader:
    """An open image, read once: a file or device whose size is known, or a stream."""

    size: int | None
    """Bytes from where reading begins to the end; None while a stream has not ended."""
    mode: int
    """Permission bits for the volume."""

    @classmethod
    def open(cls, name: str, *, skip: int = 0, ahead: bool = False) -> "ImageReader":
        """Opens a file, device or pipe, or ``-`` for stdin, which is read from where it stands.

        The first `skip` bytes are left out. `ahead`: a thread reads the next batch while the
        caller works on this one. UsageError when it cannot be read, or is too large or too small.
        """
        try:
            file = os.dup(sys.stdin.fileno()) if name == STDIN else os.open(name, os.O_RDONLY)
        except OSError as error:
            raise UsageError(
                f"image {name} cannot be opened: {error.strerror}; check the path"
            ) from None
        try:
            return cls(file, name, skip=skip, ahead=ahead)
        except BaseException:
            os.close(file)
            raise

    def __init__(
        self, file: int, name: str, *, skip: int = 0, ahead: bool = False, holes: bool = False
    ) -> None:
        """Takes over the descriptor; for the rest see open(). `holes`: they are read as zeros."""
        self.name = name
        self.grown = 0
        """Bytes that a file had more at the end of the reading than at its start."""
        self._file = file
        self._ahead = ahead
        self._holes = holes
        self._thread: ThreadPoolExecutor | None = None
        self._wake = -1
        """Ends a reading in the thread that waits for a stream's writer."""
        self._peeked = b""
        """What has been taken from a stream to look at it, and is to be read yet."""
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"image {name} is a directory: name a file")
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            raise UsageError(f"image {name} is not open for reading; name a file, or pipe one in")
        regular = stat.S_ISREG(status.st_mode)
        self.mode = stat.S_IMODE(status.st_mode) & 0o777 if regular else 0o600
        # /proc's files have no size, and yet content.
        self._sized = (regular and status.st_size > 0) or stat.S_ISBLK(status.st_mode)
        self._start = 0
        self.size = None
        if self._sized:
            self._start = os.lseek(file, 0, os.SEEK_CUR) + skip
            self.size = max(0, self._end() - self._start)
            if skip and self._start > self._end():
                raise self._too_short(skip, self._end() - self._start + skip)
        else:
            self._skip(skip)
        if (self.size or 0) > MAXIMUM_VOLUME_SIZE:
            raise UsageError(f"image {name} is larger than a volume can be ({MAXIMUM_VOLUME_SIZE})")

    def _too_short(self, skip: int, length: int) -> UsageError:
        return UsageError(
            f"image {self.name} has {max(0, length):,} bytes, and --skip leaves out {skip:,}:"
            " give a smaller number"
        )

    def _end(self) -> int:
        """How many bytes the file or device has now."""
        status = os.fstat(self._file)
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        here = os.lseek(self._file, 0, os.SEEK_CUR)
        end = os.lseek(self._file, 0, os.SEEK_END)
        os.lseek(self._file, here, os.SEEK_SET)
        return end

    def _skip(self, count: int) -> None:
        buffer = memoryview(bytearray(min(count, 1 << 20)))
        left = count
        while left:
            try:
                length = self._fill_from_stream(buffer[:left])
            except OSError as error:
                raise self._unreadable(count - left, error) from error
            if not length:
                raise self._too_short(count, count - left)
            left -= length

    def close(self) -> None:
        """Closes the file."""
        self._stop()
        os.close(self._file)

    def _stop(self) -> None:
        if self._thread is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.shutdown()
            self._thread = None
            os.close(self._wake)
            self._wake = -1

    def peek(self, count: int) -> memoryview:
        """The first bytes, fewer of a shorter image; what is read afterwards begins with them.

        To be called before batches(), once. EnvironmentProblem when reading fails.
        """
        buffer = memoryview(bytearray(count))
        try:
            if self._sized:
                return buffer[: self._fill(buffer[: self.size], self._start)]
            length = self._fill_from_stream(buffer)
        except OSError as error:
            raise self._unreadable(0, error) from error
        self._peeked = bytes(buffer[:length])
        return buffer[:length]

    @property
    def read_at(self) -> Callable[[int, int], bytes] | None:
        """Reads a file or device anywhere: (offset, count) -> bytes, fewer at the end; None for a
        stream."""
        if not self._sized:
            return None

        def read(offset: int, count: int) -> bytes:
            assert self.size is not None
            out = memoryview(bytearray(max(0, min(count, self.size - offset))))
            try:
                return bytes(out[: self._fill(out, self._start + offset)])
            except OSError as error:
                raise self._unreadable(offset, error) from error

        return read

    def chunks(self) -> Iterator[memoryview]:
        """Iterates over all bytes in order, holes as zeros; else as batches()."""
        zeros = memoryview(bytes(ZEROS_BYTES))
        end = 0
        for offset, data in self.batches():
            yield from _pieces(zeros, offset - end)
            yield data
            end = offset + len(data)
        yield from _pieces(zeros, (self.size or 0) - end)

    def batches(self) -> Iterator[tuple[int, memoryview]]:
        """Iterates over (offset, bytes); offsets are multiples of the page, holes left out.

        The bytes are valid until the next step. Only the last batch can end within a page.
        EnvironmentProblem when reading fails, or a file has become shorter than it was.
        """
        end = 0
        for offset, data in self._all_batches():
            end = offset + len(data)
            yield offset, data
        if self.size is None:
            self.size = end
            return
        now = max(0, self._end() - self._start)
        if now < self.size:
            raise self._shrunk(now)
        self.grown = now - self.size
        os.lseek(self._file, self._start + self.size, os.SEEK_SET)

    def _shrunk(self, length: int) -> EnvironmentProblem:
        return EnvironmentProblem(
            f"image {self.name} ended after {max(0, length):,} of {self.size:,} bytes;"
            " import it when nobody changes it, or through a pipe"
        )

    def _unreadable(self, offset: int, error: OSError) -> EnvironmentProblem:
        return EnvironmentProblem(
            f"image {self.name} cannot be read at {offset:,}: {error.strerror};"
            " import it from a copy"
        )

    def _all_batches(self) -> Iterator[tuple[int, memoryview]]:
        if not self._ahead:
            buffer = memoryview(bytearray(BATCH_BYTES))
            offset = 0
            while batch := self._read(buffer, offset):
                yield batch
                offset = batch[0] + len(batch[1])
            return
        buffers = [memoryview(bytearray(BATCH_BYTES)) for _ in range(2)]
        self._wake = os.eventfd(0)
        self._thread = thread = ThreadPoolExecutor(1, "difffs-image")
        try:
            coming: Future[tuple[int, memoryview] | None]
            coming = thread.submit(self._read, buffers[0], 0)
            while batch := coming.result():
                buffers.reverse()
                coming = thread.submit(self._read, buffers[0], batch[0] + len(batch[1]))
                yield batch
        finally:
            self._stop()

    def _read(self, buffer: memoryview, offset: int) -> tuple[int, memoryview] | None:
        """The next data at or behind `offset`; None at the end."""
        if offset % PAGE_SIZE:
            return None  # the batch before ended within a page
        try:
            if not self._sized:
                length = self._fill_from_stream(buffer)
                return (offset, buffer[:length]) if length else None
            offset, limit = self._next_data(offset)
            length = self._fill(buffer[:limit], self._start + offset)
        except OSError as error:
            raise self._unreadable(offset, error) from error
        if length < limit:
            raise self._shrunk(offset + length)
        return (offset, buffer[:length]) if length else None

    def _fill(self, buffer: memoryview, position: int) -> int:
        length = 0
        while length < len(buffer):
            count = os.preadv(self._file, [buffer[length:]], position + length)
            if not count:
                break
            length += count
        return length

    def _fill_from_stream(self, buffer: memoryview) -> int:
        length = min(len(self._peeked), len(buffer))
        buffer[:length] = self._peeked[:length]
        self._peeked = self._peeked[length:]
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        if self._wake >= 0:
            poll.register(self._wake, select.POLLIN)
        while length < len(buffer):
            # Also for those whose descriptor somebody else has made not to wait.
            if any(file == self._wake for file, _events in poll.poll()):
                return 0  # nobody wants it any more
            count = os.readv(self._file, [buffer[length:]])
            if not count:
                break
            length += count
        return length

    def _next_data(self, offset: int) -> tuple[int, int]:
        """(offset, length) of the next batch of data; length 0 at the end."""
        assert self.size is not None
        if offset >= self.size:
            return offset, 0
        if self._holes:
            return offset, min(BATCH_BYTES, self.size - offset)
        try:
            data = os.lseek(self._file, self._start + offset, os.SEEK_DATA) - self._start
            hole = os.lseek(self._file, self._start + data, os.SEEK_HOLE) - self._start
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return self.size, 0
            return offset, min(BATCH_BYTES, self.size - offset)  # a device: no holes
        if data >= self.size:  # what came later
            return self.size, 0
        data -= data % PAGE_SIZE
        hole = min(self.size, hole + -hole % PAGE_SIZE)
        return data, min(BATCH_BYTES, hole - data)


def _pieces(zeros: memoryview, count: int) -> Iterator[memoryview]:
    while count > 0:
        yield zeros[:count]
        count -= len(zeros)
