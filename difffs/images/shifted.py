"""Raw memory whose pages do not lie at multiples of the page: LiME's ``format=raw``.

It has the machine's ranges of memory one after the other, without headers. Where a range ends
within a page (nearly every PC with a BIOS has one that ends at 0x9FC00), all that follows lies at
another residue of the page size, and none of it would be found again in other images. Nothing says
where that is; but what is there does:

- All other ranges are whole pages, so the image's length has the residue too: a multiple of 1 KiB
  that is none of a page. Raw memory of a hypervisor has whole pages. That is how it is recognised.
- The range that ends within a page is the first one, and ends within the last pages below 0xA0000.
- Contents of pages begin at a page's start behind the zeros that end the page before: ends of runs
  of zeros are, where there are many, at one residue mostly. Of 512 pieces of 1 MiB of the memory of
  two Linux guests, 159 told so, all of them rightly, and 8 more told of residues that are no
  multiple of 1 KiB (tables whose entries begin with 4 zeros). The others had too few runs.

Which address a range had is not known. So the memory is that of the image with its ranges moved up
to the next multiple of the page: not the guest's addresses, but the guest's pages. A wrong guess
costs room in a store, and nothing else.
"""

import re
from collections import Counter

from difffs.images.assembly import Assembly
from difffs.images.format import Format, NotThisFormat
from difffs.images.source import LOOKAHEAD, PositionedRead, Source
from difffs.page import PAGE_SIZE

GRAIN = 1 << 10
"""Ranges that end within a page end at multiples of this."""
FIRST_RANGE_END = 0x9E000
"""Where in the image the first range ends, but for the residue: it is at 0x1000 in memory."""
ZEROS = re.compile(bytes(64) + rb"\0*+")
"""A run of zeros. (As a literal that is found eight times as fast as by a count.)"""
LEAST_ENDS = 16
"""Ends of runs at one residue in a piece that are enough to tell..."""
CLEARLY = 3
"""...when they are this many times as many as at any other."""
AGREEING = 2
"""Pieces that have to tell the same, one after the other, before it is believed."""
LOOKED_AT = 256
"""Pieces of a file that are asked at most whether it is one of these."""
LOOK_EVERY = 16
"""Once something is believed, only each so many-th piece is asked again."""


def has_residue(size: int) -> bool:
    """Whether an image of that many bytes may be one of these."""
    return size % PAGE_SIZE != 0 and size % GRAIN == 0


def residue_of(piece: memoryview | bytes, position: int) -> int | None:
    """Where pages begin in a piece of memory that lies from `position` of the image on: the
    residue of the page size, None when it does not tell."""
    ends = Counter(
        (position + run.end()) % PAGE_SIZE
        for run in ZEROS.finditer(piece)
        if run.end() < len(piece)
    ).most_common(2)
    if not ends or ends[0][1] < LEAST_ENDS or ends[0][0] % GRAIN:
        return None
    if len(ends) > 1 and ends[0][1] < CLEARLY * ends[1][1]:
        return None
    return ends[0][0]


def is_shifted(read_at: PositionedRead, size: int) -> bool:
    """Whether pieces from all over a file tell the residue that its length has."""
    if not has_residue(size):
        return False
    stride = max(size // LOOKED_AT, LOOKAHEAD)
    right = wrong = 0
    for position in range(FIRST_RANGE_END + PAGE_SIZE, size, stride):
        told = residue_of(read_at(position, LOOKAHEAD), position)
        right += told == size % PAGE_SIZE
        wrong += told is not None and told != size % PAGE_SIZE
        if right >= AGREEING and right > CLEARLY * wrong:
            return True
    return False


class _Belief:
    """Where pages begin, by what the pieces tell."""

    def __init__(self) -> None:
        self._told: int | None = None
        self._times = 0
        self._until_next = 0

    def ask(self, piece: memoryview, position: int) -> int | None:
        """The residue when enough pieces have told it, None when nothing new is known."""
        if self._until_next:
            self._until_next -= 1
            return None
        told = residue_of(piece, position)
        if self._times >= AGREEING and told in (None, self._told):
            self._until_next = LOOK_EVERY - 1
            return None
        if told is None:
            return None
        self._times = self._times + 1 if told == self._told else 1
        self._told = told
        if self._times < AGREEING:
            return None
        self._until_next = LOOK_EVERY - 1
        return told


def _read(source: Source, assembly: Assembly) -> None:
    if source.size is not None:
        if not has_residue(source.size):
            raise NotThisFormat("its length tells of no range of memory that ends within a page")
        if source.read_at is not None and not is_shifted(source.read_at, source.size):
            raise NotThisFormat("no memory with shifted pages")
    assembly.details(format="shifted")
    assembly.blocks([("memory", 0)], 0)
    belief = _Belief()
    offset = 0
    # Where pages begin in the image, and where in it that may change next.
    residue = 0
    change = None if source.size is None else (FIRST_RANGE_END + source.size % PAGE_SIZE)
    shifts = 0
    while not source.at_end:
        piece = source.peek(LOOKAHEAD)
        position = source.position
        told = belief.ask(piece, position)
        if told is not None and told != residue and (change is None or change < position):
            change = position + (told - position) % PAGE_SIZE
        if change is not None and position <= change < position + len(piece):
            piece = piece[: change - position]
        if piece:
            assembly.grow(0, offset + len(piece))
            assembly.memory(0, offset, piece)
            offset += len(piece)
            source.skip(len(piece))
        if source.position == change:
            residue = change % PAGE_SIZE
            offset += -offset % PAGE_SIZE
            change = None
            shifts += 1
    assembly.details(shifts=shifts)
    assembly.unusual(
        "ranges of memory without their addresses: the memory has the pages in the image's order,"
        " not at the guest's addresses"
    )


FORMAT = Format(
    "shifted", "raw memory with shifted pages", lambda _prefix: False, _read, unmarked=True
)
"""Known by the image's length, not by its first bytes, which match nothing: has_residue() says
whether to try; read() refuses files that do not look like it inside. A pipe has no length: there
it has to be named."""
