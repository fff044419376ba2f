"""The memory-hungry program of the swap part: a fixed amount of work on pages of an image.

``python -m benchmark.hog BYTES ROUNDS IMAGE...`` fills anonymous memory from the images. Then in
each round it uses as many pages as it has, in short runs, four of five in the warmer third of its
memory; each page is checked, every eighth replaced. At the end all pages are checked. It prints
one JSON object, keeps its memory until its stdin ends, and exits with 1 when a page was not what
was put there.
"""

from __future__ import annotations

import json
import mmap
import random
import sys
import time
from array import array
from zlib import crc32

PAGE = 4096
RUN = 16
"""Pages that are used one after the other."""
_REPLACED = 8
_WARM_MEMORY = 0.33
_WARM_USE = 0.8


class WrongPage(Exception):
    """A page is not what was put there."""


class Hog:
    """Anonymous memory with known contents."""

    def __init__(self, size: int, images: list[str]) -> None:
        runs = size // PAGE // RUN
        self._count = (runs - (runs % 3 == 0)) * RUN  # see work()
        self._random = random.Random(1)
        # mapped, not read: the images' pages are in the page cache and belong to somebody else
        self._sources = [self._map(name) for name in images]
        self._memory = memoryview(
            mmap.mmap(-1, self._count * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        )
        self._checksums = array("L", bytes(8 * self._count))

    @staticmethod
    def _map(name: str) -> memoryview:
        with open(name, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _put(self, number: int, source: memoryview, at: int) -> None:
        page = source[at : at + PAGE]
        self._memory[number * PAGE : (number + 1) * PAGE] = page
        self._checksums[number] = crc32(page)

    def fill(self) -> None:
        """Fill the memory from the images, one after the other, as often as it takes."""
        pages = [(source, at) for source in self._sources for at in range(0, len(source), PAGE)]
        for number in range(self._count):
            self._put(number, *pages[number % len(pages)])

    def _check(self, number: int) -> None:
        if crc32(self._memory[number * PAGE : (number + 1) * PAGE]) != self._checksums[number]:
            raise WrongPage(f"page {number} is not what was put there")

    def work(self) -> int:
        """Use as many pages as there are, most of them in the warm part; return how many."""
        runs = self._count // RUN
        warm = int(runs * _WARM_MEMORY)
        for _ in range(runs):
            is_warm = self._random.random() < _WARM_USE
            run = self._random.randrange(0, warm) if is_warm else self._random.randrange(warm, runs)
            # The warm part is not one block, but every third run: as allocators leave things.
            first = run * 3 % runs * RUN
            for number in range(first, first + RUN):
                self._check(number)
                if number % _REPLACED == run % _REPLACED:
                    source = self._random.choice(self._sources)
                    self._put(number, source, self._random.randrange(len(source) // PAGE) * PAGE)
        return runs * RUN

    def check_all(self) -> int:
        """Check every page; return how many."""
        for number in range(self._count):
            self._check(number)
        return self._count


def main(arguments: list[str]) -> int:
    """Run as a command."""
    size, rounds = int(arguments[0]), int(arguments[1])
    hog = Hog(size, arguments[2:])
    began = time.perf_counter()
    try:
        hog.fill()
        checked = sum(hog.work() for _ in range(rounds)) + hog.check_all()
    except WrongPage as error:
        print(f"hog: {error}", file=sys.stderr)
        return 1
    values = {"seconds": time.perf_counter() - began, "pages_verified": checked}
    print(json.dumps(values), flush=True)
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
