"""What a volume may hold, page by page, while a disk is full and after the daemon was killed.

A page's contents are a number, from which :func:`page_bytes` makes its bytes; 0 is a page of
zeros. Each page has the numbers that a reader may find. A write adds one, an fsync that succeeds
leaves the last one only. An fsync that fails leaves all: the kernel may have dropped what it could
not send, and tells only once.
"""

import functools
import random
from collections import deque
from collections.abc import Callable

PAGE = 4096
_REMEMBERED = 64
"""What was written to a page longer ago is not told of a page that is wrong."""


@functools.lru_cache(maxsize=1 << 15)
def page_bytes(content: int) -> bytes:
    """Return a page: noise, noise much like another page, repeated words, or zeros."""
    if content == 0:
        return bytes(PAGE)
    source = random.Random(content)
    kind = content % 8
    if kind == 0:
        return source.randbytes(64) * (PAGE // 64)
    if kind < 3:  # one of some families: most of it is another page's
        page = bytearray(random.Random(kind + source.randrange(16) * 8).randbytes(PAGE))
        start = source.randrange(PAGE - 400)
        page[start : start + 400] = source.randbytes(400)
        return bytes(page)
    return source.randbytes(PAGE)


class Volume:
    """One file of a fixed number of pages."""

    def __init__(
        self, name: str, pages: int, bytes_of: Callable[[int], bytes] = page_bytes
    ) -> None:
        """All zeros, and that is durable. `bytes_of` makes a page of a number other than 0."""
        self.name = name
        self.pages = pages
        self._bytes_of = bytes_of
        self._possible: list[list[int]] = [[0] for _ in range(pages)]
        self._pending: set[int] = set()
        self._written: dict[int, deque[int]] = {}

    def write(self, page: int, content: int) -> None:
        """Note that a page was written, or that it was tried."""
        possible = self._possible[page]
        if possible[-1] != content or len(possible) > 1:
            possible.append(content)
        self._pending.add(page)
        self._written.setdefault(page, deque(maxlen=_REMEMBERED)).append(content)

    def synchronized(self) -> None:
        """Note that an fsync has succeeded: what was written since the last one is there."""
        for page in self._pending:
            del self._possible[page][:-1]
        self._pending.clear()

    def refused(self) -> None:
        """Note that an fsync has failed, or that the file was closed without one: what was written
        since the last one may be lost."""
        self._pending.clear()

    def found(self, page: int, data: bytes) -> str | None:
        """Note what a page is after a crash, which it stays; what is wrong with it, or None."""
        fault = self.fault(page, data)
        if fault is None:
            possible = self._possible[page]
            possible[:] = [next(each for each in reversed(possible) if self._is(each, data))]
        return fault

    def not_last(self, page: int, data: bytes) -> str | None:
        """Say what is wrong with what was read while nothing was refused or lost, or None."""
        last = self._possible[page][-1]
        if self._is(last, data):
            return None
        return self.fault(page, data) or f"{self.name}: page {page} is not {last}, but older"

    def _is(self, content: int, data: bytes) -> bool:
        return data == (self._bytes_of(content) if content else bytes(PAGE))

    def is_written(self, page: int) -> bool:
        """Whether a page may hold anything but zeros."""
        return self._possible[page] != [0]

    def fault(self, page: int, found: bytes) -> str | None:
        """Say what is wrong with what was read, or None."""
        possible = self._possible[page]
        if any(self._is(content, found) for content in reversed(possible)):
            return None
        before = [was for was in self._written.get(page, ()) if self._is(was, found)]
        what = f"{before[0]}, which it was" if before else "nothing that was ever written to it"
        return f"{self.name}: page {page} is none of {possible}, but {what}"

    def certain(self) -> int:
        """Return how many pages with contents can be but one thing."""
        return sum(len(possible) == 1 and possible[0] != 0 for possible in self._possible)
