"""Bytes that wait for their turn: first in, first out, in memory while they are few."""

import tempfile
from types import TracebackType
from typing import Self


class ByteQueue:
    """A queue of bytes that takes `in_memory` bytes of memory at most; more wait in a temporary
    file that has no name. To be closed, or used as a context."""

    def __init__(self, in_memory: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=in_memory)  # noqa: SIM115  (close())
        self._start = 0
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Bytes that wait."""
        return self._end - self._start

    def put(self, data: bytes | memoryview) -> None:
        """Adds bytes at the end."""
        if self._start == self._end and self._start:
            self._file.seek(0)
            self._file.truncate()
            self._start = self._end = 0
        self._file.seek(self._end)
        self._file.write(data)
        self._end += len(data)

    def peek(self, count: int) -> bytes:
        """The first `count` bytes, fewer where there are fewer; they stay."""
        self._file.seek(self._start)
        return self._file.read(min(count, len(self)))

    def skip(self, count: int) -> None:
        """Takes bytes that have been looked at."""
        if count > len(self):
            raise ValueError("takes more than is there")
        self._start += count

    def take(self, count: int) -> bytes:
        """The first `count` bytes, fewer where there are fewer, taken."""
        data = self.peek(count)
        self.skip(len(data))
        return data

    def close(self) -> None:
        """Gives memory and file back."""
        self._file.close()
