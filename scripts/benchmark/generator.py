"""Pages like those of real guests' memory, from a seed: for benchmarks without memory images.

The mix is that of the images the project was developed with (two different Debian guests, at
work); ``scripts/bench --check-generator IMAGE...`` prints both side by side. Of all pages:

==========  =====  ==============================================================================
zero        16.5%
same         1.8%  one 8-byte word repeated: page-table fill, poison, pixels
identical    1.6%  copies of an earlier page
similar      5.0%  an earlier page with 8 to 240 words changed, a run rewritten, or all shifted
records     38.0%  the kernel's and programs' structures: pointers, counters, flags, zeros
sparse       6.5%  a few words or names in zeros
text        11.0%  phrases, log lines, symbol tables
code        11.5%  opcodes and operands
mixed        8.0%  the one to some byte, and another behind it
noise        0.1%  what is compressed or encrypted already
==========  =====  ==============================================================================

Earlier pages are drawn from a bounded random selection of those that there were. The vocabulary of
each kind (*families*: sorts of structure, programs, documents) is replaced little by little, so
that a thousand times more data is not a thousand times the same data.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator

PAGE = 4096
KEPT = 8192
"""Earlier pages to be copied or changed (32 MiB)."""
FAMILY_PAGES = 384
"""Pages that a family serves before it is replaced."""
BATCH = 1024
"""Pages of one batch (4 MiB)."""

_SYLLABLES = b"""
con tra min ser vice get set val ue key log err or page mem ory file name path sys tem net
work de vice usr lib bin dev proc node list head next prev lock ref count init exit open read
write send recv buf fer size len ptr map tab le cache hash in dex the of and to a is for it
""".split()

Maker = Callable[[], bytes]


class _Families:
    """Vocabularies of 256 byte strings each; one is drawn at random, and grows old with use."""

    def __init__(self, source: random.Random, count: int, make: Callable[[], list[bytes]]) -> None:
        self._source = source
        self._make = make
        self._families = [make() for _ in range(count)]
        self._uses = [source.randrange(FAMILY_PAGES) for _ in range(count)]

    def draw(self) -> list[bytes]:
        """Return the 256 strings of some family."""
        at = int(self._source.random() * len(self._families))
        self._uses[at] += 1
        if self._uses[at] >= FAMILY_PAGES:
            self._families[at] = self._make()
            self._uses[at] = 0
        return self._families[at]


class Generator:
    """An endless sequence of pages; the same for the same seed."""

    def __init__(self, seed: int = 1) -> None:
        self._source = source = random.Random(seed)
        self._kept: list[bytes] = []
        self._seen = 0
        self._structures = _Families(source, 96, self._make_structure)
        self._programs = _Families(source, 24, self._make_program)
        self._documents = _Families(source, 24, self._make_document)
        kinds: list[tuple[float, Maker]] = [
            (0.165, lambda: bytes(PAGE)),
            (0.018, self._same),
            (0.016, self._earlier),
            (0.050, self._similar),
            (0.380, self._records),
            (0.065, self._sparse),
            (0.110, self._text),
            (0.115, self._code),
            (0.080, self._mixed),
            (0.001, lambda: source.randbytes(PAGE)),
        ]
        self._makers = [maker for _, maker in kinds]
        self._weights = [weight for weight, _ in kinds]

    def batches(self, pages: int) -> Iterator[bytes]:
        """Iterate over that many pages, joined to batches of at most BATCH."""
        while pages > 0:
            count = min(pages, BATCH)
            yield b"".join(self._page_run(count))
            pages -= count

    def _page_run(self, count: int) -> Iterator[bytes]:
        source = self._source
        made = 0
        while made < count:
            # Memory comes in runs of a kind: what a file, a slab or a heap left there.
            maker = source.choices(self._makers, self._weights)[0]
            for _ in range(min(count - made, 1 + int(source.expovariate(0.25)))):
                page = maker()
                if maker not in (self._earlier, self._similar, self._makers[0]):
                    self._keep(page)
                made += 1
                yield page

    def _keep(self, page: bytes) -> None:
        """Reservoir sampling that favours late pages a little: the past fades."""
        self._seen += 1
        if len(self._kept) < KEPT:
            self._kept.append(page)
        elif self._source.random() < max(0.25, KEPT / self._seen):
            self._kept[int(self._source.random() * KEPT)] = page

    # --- pages of earlier ones --------------------------------------------------------------------

    def _same(self) -> bytes:
        return self._source.choice((b"\xff" * 8, b"\xaa" * 8, b"\xcc" * 8, self._word())) * 512

    def _earlier(self) -> bytes:
        return self._source.choice(self._kept) if self._kept else bytes(PAGE)

    def _similar(self) -> bytes:
        source = self._source
        page = bytearray(self._earlier())
        way = source.random()
        if way < 0.75:  # words here and there
            structure = self._structures.draw()
            for _ in range(int(8 * 30 ** source.random())):
                at = source.randrange(512) * 8
                page[at : at + 8] = structure[source.randrange(256)]
        elif way < 0.9:  # one run
            at, length = source.randrange(PAGE), source.randrange(64, 1024)
            page[at : at + length] = source.randbytes(min(length, PAGE - at))
        else:  # shifted
            step = source.randrange(1, 512)
            page = page[-step:] + page[:-step]
        return bytes(page)

    # --- new pages --------------------------------------------------------------------------------

    def _joined(self, words: list[bytes], count: int) -> bytes:
        return b"".join(map(words.__getitem__, self._source.randbytes(count)))

    def _filled(self, words: list[bytes], count: int) -> bytes:
        page = self._joined(words, count)
        while len(page) < PAGE:
            page += self._joined(words, count // 4)
        return page[:PAGE]

    def _word(self) -> bytes:
        return self._source.randbytes(8)

    def _make_structure(self) -> list[bytes]:
        """Words of a sort of structure: mostly zeros, then small numbers and pointers."""
        source = self._source
        region = source.getrandbits(20) << 24 | 0xFFFF8880 << 32
        words = []
        zeros = int(source.triangular(0, 205, 120))
        for at in range(256):
            if at < zeros:
                word = bytes(8)
            elif at % 3 == 0:
                word = (region + source.getrandbits(20) * 16).to_bytes(8, "little")
            elif at % 3 == 1:
                word = source.getrandbits(source.choice((2, 4, 8, 16))).to_bytes(8, "little")
            else:
                word = source.getrandbits(32).to_bytes(4, "little") + bytes(4)
            words.append(word)
        return words

    def _records(self) -> bytes:
        """A slab of equal records: some words the same in all of them, others not."""
        source = self._source
        words = self._structures.draw()
        size = source.choice((4, 8, 8, 16, 24, 32, 64))
        record = self._joined(words, size)
        page = bytearray(record * (512 // size + 1))[:PAGE]
        for _ in range(source.choice((20, 60, 120, 200))):
            at = source.randrange(512) * 8
            page[at : at + 8] = words[source.randrange(256)]
        for _ in range(source.choice((2, 10, 40, 90))):
            at = source.randrange(512) * 8
            page[at : at + 3] = source.randbytes(3)
        return bytes(page)

    def _sparse(self) -> bytes:
        source = self._source
        page = bytearray(PAGE)
        words = self._structures.draw() if source.random() < 0.7 else self._documents.draw()
        for _ in range(int(2 * 40 ** source.random())):
            word = words[source.randrange(256)]
            at = source.randrange(511) * 8
            page[at : at + len(word)] = word
            page[at : at + 3] = source.randbytes(3)
        return bytes(page[:PAGE])

    def _make_document(self) -> list[bytes]:
        """Phrases: words of two or three syllables, separators, some numbers."""
        source = self._source
        ends = source.choice(
            ((b" ",), (b" ", b" ", b", ", b".\n"), (b"=", b" ", b"\n"), (b"\0", b"_"))
        )
        words = []
        for _ in range(256):
            parts = source.choices(_SYLLABLES, k=source.choice((1, 2, 2, 3, 4)))
            number = b"%d" % source.randrange(10**6) if source.random() < 0.15 else b""
            words.append(b"".join(parts) + number + source.choice(ends))
        return words

    def _text(self) -> bytes:
        words = self._documents.draw()
        if self._source.random() < 0.5:  # a narrow vocabulary
            words = words[: self._source.choice((24, 64, 128))] * 11
        return self._filled(words, 520)

    def _make_program(self) -> list[bytes]:
        """Instructions of two to seven bytes: few opcodes, any operands."""
        source = self._source
        opcodes = [source.randbytes(source.choice((1, 2, 2, 3))) for _ in range(40)]
        return [
            opcodes[int(40 * source.random() ** 2)]
            + (bytes(3) if source.random() < 0.15 else b"")
            + source.randbytes(source.choice((0, 1, 1, 2, 4)))
            for _ in range(256)
        ]

    def _code(self) -> bytes:
        source = self._source
        page = bytearray(self._filled(self._programs.draw(), 1000))
        for _ in range(int(260 * source.random() ** 2)):
            at = source.randrange(PAGE - 4)
            page[at : at + 4] = source.randbytes(4)
        return bytes(page)

    def _mixed(self) -> bytes:
        source = self._source
        one, other = source.sample((self._records, self._text, self._code, self._sparse), 2)
        at = source.randrange(1, 64) * 64
        return one()[:at] + other()[at:]


def main(arguments: list[str]) -> int:
    """``python -m benchmark.generator PAGES [SEED]``: write pages to stdout."""
    pages, seed = [int(word) for word in [*arguments, "1"][:2]]
    for batch in Generator(seed).batches(pages):
        sys.stdout.buffer.write(batch)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
