"""Bytes for volumes, gathered into batches of whole pages; and marks on pages."""

from array import array
from collections.abc import Callable, Iterator

from difffs.engine import Engine
from difffs.page import PAGE_SIZE, page_count

STAGED_PAGES = 512
"""As many as the engine takes at a time."""

MARK_PAGES = 512
"""Pages for which memory is taken together: for a page far from all others, some KB at most."""

FROM_ROW, APART = 1, 2
"""Marks: a row names the page; it was given otherwise."""


class PageWriter:
    """Gathers bytes for volumes into batches of whole pages, as the engine takes them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._staging = memoryview(bytearray(STAGED_PAGES * PAGE_SIZE))
        self._numbers = array("Q")
        self._volume = 0
        # A page that is written in parts, as the last one of what has come so far, and which bytes
        # of it have come. What it holds beside them is asked for only when they are not all.
        self._partial: tuple[int, int] | None = None
        self._content = bytearray(PAGE_SIZE)
        self._from = self._to = 0

    def write(self, volume: int, offset: int, data: memoryview | bytes) -> None:
        """Writes bytes anywhere; what a page has beside them stays."""
        view = memoryview(data)
        while view:
            page, start = divmod(offset, PAGE_SIZE)
            if start or len(view) < PAGE_SIZE:
                count = min(PAGE_SIZE - start, len(view))
                self._write_part(volume, page, start, view[:count])
            else:
                count = len(view) & -PAGE_SIZE
                self.write_pages(volume, page, view[:count])
            view, offset = view[count:], offset + count

    def _write_part(self, volume: int, page: int, start: int, data: memoryview) -> None:
        if self._partial != (volume, page) or start != self._to:
            self._end_part()
            self._partial = volume, page
            self._from = start
        self._to = start + len(data)
        self._content[start : self._to] = data
        if self._to == PAGE_SIZE:
            self._end_part()

    def _end_part(self) -> None:
        if self._partial is None:
            return
        (volume, page), self._partial = self._partial, None
        start, end, content = self._from, self._to, self._content
        if end - start < PAGE_SIZE:
            content = bytearray(PAGE_SIZE)
            self.read(volume, page, content)
            content[start:end] = self._content[start:end]
        self.write_pages(volume, page, content)

    def write_pages(self, volume: int, first: int, pages: memoryview | bytearray) -> None:
        """Writes whole pages."""
        if self._partial is not None:
            self._end_part()
        view = memoryview(pages)
        while view:
            staged = len(self._numbers)
            if staged and (
                volume != self._volume or first <= self._numbers[-1] or staged == STAGED_PAGES
            ):
                self._hand_over()
                continue
            count = min(len(view) // PAGE_SIZE, STAGED_PAGES - staged)
            end = count * PAGE_SIZE
            self._volume = volume
            if count == STAGED_PAGES:  # as many as the engine wants: no copy
                self._engine.write(volume, range(first, first + count), view[:end])
            else:
                self._staging[staged * PAGE_SIZE : staged * PAGE_SIZE + end] = view[:end]
                self._numbers.extend(range(first, first + count))
            view, first = view[end:], first + count

    def _hand_over(self) -> None:
        numbers, self._numbers = self._numbers, array("Q")
        if numbers:
            self._engine.write(self._volume, numbers, self._staging[: len(numbers) * PAGE_SIZE])

    def flush(self) -> None:
        """Has the store take all that was written."""
        self._end_part()
        self._hand_over()

    def flush_pages(self, volume: int, first: int, count: int) -> None:
        """Has the store take what was written, if that may concern these pages."""
        self._end_part()
        numbers = self._numbers
        if volume != self._volume or not numbers:
            return
        if numbers[0] < first + count and numbers[-1] >= first:
            self._hand_over()

    def read(self, volume: int, first: int, out: bytearray | memoryview) -> None:
        """Fills out with whole pages as they were written."""
        self.flush()
        self._engine.read(volume, first, len(out) // PAGE_SIZE, out)


class PageMarks:
    """A byte for each page of a block, 0 at first; takes memory where something is marked."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def runs(self, first: int, count: int) -> Iterator[tuple[int, int, bool]]:
        """(first page, pages, whether they are marked FROM_ROW), one after the other."""
        end = first + count
        while first < end:
            number, at = divmod(first, MARK_PAGES)
            limit = min(end - first, MARK_PAGES - at)
            chunk = self._chunks.get(number)
            if chunk is None:
                yield first, limit, False
                first += limit
                continue
            marked = chunk[at] == FROM_ROW
            if marked:
                run = limit - len(chunk[at : at + limit].lstrip(bytes((FROM_ROW,))))
            else:
                stop = chunk.find(FROM_ROW, at, at + limit)
                run = limit if stop < 0 else stop - at
            yield first, run, marked
            first += run

    def any(self, first: int, count: int) -> bool:
        """Whether a page is marked at all."""
        end = first + count
        while first < end:
            number, at = divmod(first, MARK_PAGES)
            limit = min(end - first, MARK_PAGES - at)
            chunk = self._chunks.get(number)
            if chunk is not None and chunk.count(0, at, at + limit) != limit:
                return True
            first += limit
        return False

    def mark(self, first: int, count: int, value: int) -> None:
        """Marks pages."""
        while count:
            number, at = divmod(first, MARK_PAGES)
            limit = min(count, MARK_PAGES - at)
            chunk = self._chunks.setdefault(number, bytearray(MARK_PAGES))
            chunk[at : at + limit] = bytes((value,)) * limit
            first, count = first + limit, count - limit


def read_bytes(read_pages: Callable[[int, memoryview], None], offset: int, out: memoryview) -> None:
    """Fills out with bytes from any offset on; `read_pages` reads whole pages (first, out)."""
    first, start = divmod(offset, PAGE_SIZE)
    whole = 0 if start else len(out) & -PAGE_SIZE
    if whole:
        read_pages(first, out[:whole])
    if whole < len(out):
        first += whole // PAGE_SIZE
        pages = memoryview(bytearray(page_count(start + len(out) - whole) * PAGE_SIZE))
        read_pages(first, pages)
        out[whole:] = pages[start : start + len(out) - whole]
