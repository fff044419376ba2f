"""The distinct pages of a corpus, in order of arrival: what is left once identical pages are
shared and pages of one repeated word are set aside. Only these are patched or compressed.

Told apart by digest alone (64 bits of XXH3), as in `difffs.study.sharing`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from difffs._kernels import digest, same_word
from difffs.engine import BATCH_PAGES
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Image

_PAGE_BITS = 40


class DistinctPages:
    """Pages by number, counted from 0; a context manager that holds the images open.

    They are read with system calls: mapped images would count as this process's memory.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        """Look at all pages of all images."""
        self._places = array("Q")
        """image << _PAGE_BITS | page"""
        self._files: list[int] = []
        self._open = ExitStack()
        seen = set()
        for number, image in enumerate(images):
            file = os.open(image.path, os.O_RDONLY)
            self._open.callback(os.close, file)
            self._files.append(file)
            for first in range(0, image.pages, BATCH_PAGES):
                count = min(BATCH_PAGES, image.pages - first)
                pages = memoryview(os.pread(file, count * PAGE_SIZE, first * PAGE_SIZE))
                for index in range(count):
                    page = pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
                    if same_word(page) is None and (name := digest(page)) not in seen:
                        seen.add(name)
                        self._places.append(number << _PAGE_BITS | first + index)

    def __len__(self) -> int:
        return len(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def __getitem__(self, number: int) -> bytes:
        place = self._places[number]
        page = place & (1 << _PAGE_BITS) - 1
        return os.pread(self._files[place >> _PAGE_BITS], PAGE_SIZE, page * PAGE_SIZE)

    def batches(self) -> Iterator[tuple[int, bytes]]:
        """Iterate over (number of the first page, up to BATCH_PAGES pages)."""
        for first in range(0, len(self), BATCH_PAGES):
            last = min(first + BATCH_PAGES, len(self))
            yield first, b"".join([self[number] for number in range(first, last)])
