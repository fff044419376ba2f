"""A memory-hungry process that checks its own memory.

``python hog.py [--hold] MEBIBYTES [ROUNDS [SEED]]`` fills that much anonymous memory with pages of
the kinds that programs have (a tenth empty, a tenth incompressible, the rest text and records,
many alike), then in each round verifies every page byte for byte and rewrites every eighth.
Prints one JSON object on stdout; exit status 1 when a page was not what was written. With
``--hold`` it then keeps its memory until its stdin ends, verifies all of it again and prints a
second object.
"""

from __future__ import annotations

import json
import mmap
import random
import sys
import time

PAGE = 4096
_WORDS = b"""request response session user cookie status bytes error cache index table row key
value integer string pointer length offset buffer handle thread signal socket file path mode
""".split()


class Pages:
    """The pages of a hog: a function of page number, version and seed."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        self._seed = seed
        lines = (
            b"%08d %s=%d %s\n"
            % (number, source.choice(_WORDS), source.randrange(10_000), source.choice(_WORDS))
            for number in range(12_000)
        )
        self._text = b"".join(lines)

    def page(self, number: int, version: int) -> bytes:
        """Return the 4096 bytes of a page."""
        kind = number % 10
        if kind == 0:
            return bytes(PAGE)
        if kind == 1:
            return random.Random(number * 1009 + version * 31 + self._seed).randbytes(PAGE)
        head = b"page %d version %d\n" % (number, version)
        step = (number * 2477) % (len(self._text) - PAGE)
        if kind < 6:  # much alike: the same text for many pages, another head
            step = (number % 7) * PAGE
        return head + self._text[step : step + PAGE - len(head)]


class Hog:
    """Anonymous memory with known contents."""

    def __init__(self, mebibytes: int, seed: int) -> None:
        self._pages = Pages(seed)
        self._count = mebibytes * 2**20 // PAGE
        # private: what Python maps by default is shared memory, which is swapped as a file is
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = mmap.mmap(-1, self._count * PAGE, flags=private)
        self._versions = bytearray(self._count)
        for number in range(self._count):
            self._memory[number * PAGE : (number + 1) * PAGE] = self._pages.page(number, 0)

    def verify(self, rewrite: int | None = None) -> int:
        """Compare every page, rewriting those with number % 8 == ``rewrite``; return how many.

        Raises ValueError on a page that is not what was written.
        """
        for number in range(self._count):
            at = number * PAGE
            if self._memory[at : at + PAGE] != self._pages.page(number, self._versions[number]):
                raise ValueError(f"page {number} is not what was written")
            if number % 8 == rewrite:
                self._versions[number] += 1
                self._memory[at : at + PAGE] = self._pages.page(number, self._versions[number])
        return self._count


def main(arguments: list[str]) -> int:
    """Run as a command."""
    hold = arguments[:1] == ["--hold"]
    numbers = [int(word) for word in arguments[1 if hold else 0 :]]
    mebibytes, rounds, seed = numbers + [2, 1][len(numbers) - 1 :]
    start = time.monotonic()
    try:
        hog = Hog(mebibytes, seed)
        say(sum(hog.verify(rewrite=current % 8) for current in range(rounds)), start)
        if hold:
            sys.stdin.read()
            start = time.monotonic()
            say(hog.verify(), start)
    except ValueError as error:
        print(f"hog: {error}", file=sys.stderr)
        return 1
    return 0


def say(verified: int, start: float) -> None:
    """Print one JSON object."""
    values = {"pages_verified": verified, "seconds": round(time.monotonic() - start, 3)}
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
