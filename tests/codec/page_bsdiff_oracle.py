"""bsdiff made for pages in plain Python: slow, obvious, and the judge of native/page_bsdiff.c.

One walk through a patch serves both directions: every part takes what is known where a patch is
made, and None where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.codec.binary_oracle import Counter, Counters, Decide, Decoder, Encoder

PAGE = 4096
NUMBER_BITS = 13


class MalformedError(ValueError):
    """The bytes are no patch."""


@dataclass(frozen=True)
class Triple:
    """`diff` bytes of the page like those `distance` before them, then `extra` others."""

    diff: int
    extra: int
    distance: int = PAGE


def mean(counters: Sequence[Counter]) -> int:
    return sum(each.no for each in counters) // len(counters)


class Walk:
    """What both directions have done and learned so far."""

    def __init__(self, decide: Decide, base: bytes, page: bytes | None) -> None:
        self._decide = decide
        self._counters = Counters(decide)
        self._page = page
        self._distance = PAGE
        self._groups = (0, 0, 0, 0)
        self._bytes = (0, 0)
        self.u = bytearray(base)

    def _ask(self, known: int | None, *contexts: tuple[object, ...]) -> int:
        return self._counters.ask(known, contexts, mean)

    def triple(self, known: Triple | None) -> None:
        """The next triple, with its bytes."""
        left = 2 * PAGE - len(self.u)
        diff = self.number("diff", None if known is None else known.diff)
        extra = self.number("extra", None if known is None else known.extra)
        if diff + extra > left or diff + extra == 0:
            raise MalformedError("a triple beyond the page, or of nothing")
        if diff:
            self._seek(None if known is None else self._distance - known.distance)
            if not 0 < self._distance <= len(self.u):
                raise MalformedError("a match before the base or not yet there")
        end = len(self.u) + diff
        while len(self.u) < end:
            self._group(min(8 - len(self.u) % 8, end - len(self.u)))
        for _ in range(extra):
            self.u.append(self._byte("extra", self.u[-1], self._known()))

    def _known(self, ahead: int = 0) -> int | None:
        """A byte of the page, where it is known."""
        return None if self._page is None else self._page[len(self.u) - PAGE + ahead]

    def _seek(self, known: int | None) -> None:
        nearer = self.number("seek", None if known is None else abs(known))
        if nearer and self._ask(None if known is None else int(known < 0), ("is backward",)):
            nearer = -nearer
        self._distance -= nearer

    def number(self, name: str, known: int | None) -> int:
        """0 to 8191."""
        bits = 0
        while bits < NUMBER_BITS and self._ask(
            None if known is None else int(known.bit_length() > bits), (name, "above", bits)
        ):
            bits += 1
        number = min(bits, 1)
        low = 1
        for place in reversed(range(bits - 1)):
            wanted = None if known is None else known >> place & 1
            if place >= bits - 3:
                bit = self._ask(wanted, (name, "high", bits, number))
            elif place >= 3:
                bit = self._decide(32768, wanted)
            else:
                bit = self._ask(wanted, (name, "low", low))
                low = 2 * low + bit
            number = 2 * number + bit
        return number

    def _byte(self, name: str, neighbour: int, known: int | None) -> int:
        node = 1
        for place in reversed(range(8)):
            wanted = None if known is None else known >> place & 1
            node = 2 * node + self._ask(
                wanted, (name, "at", len(self.u) % 8, node), (name, "by", neighbour >> 3, node)
            )
        return node - 256

    def _group(self, size: int) -> None:
        changed = None
        if self._page is not None:
            changes = [self._known(i) != self._old(i) for i in range(size)]
            changed = int(any(changes))
        changed = self._ask(changed, ("is group changed", self._groups))
        self._groups = (*self._groups[1:], changed)
        any_before = 0
        for _ in range(size):
            old, new = self._old(), self._known()
            difference = None if new is None else (new - old) % 256
            if changed:
                is_changed = self._ask(
                    None if difference is None else int(difference != 0),
                    ("is byte changed", len(self.u) % 8, any_before, self._bytes),
                )
                self._bytes = (self._bytes[1], is_changed)
                any_before |= is_changed
                if is_changed:
                    old = (old + self._byte("difference", old, difference)) % 256
            self.u.append(old)

    def _old(self, ahead: int = 0) -> int:
        """The byte that the match has."""
        place = len(self.u) + ahead - self._distance
        if place < len(self.u):
            return self.u[place]
        assert self._page is not None
        return self._page[place - PAGE]


def decode(patch: bytes, base: bytes) -> bytes:
    """The page that the patch makes of the base; `MalformedError` when it makes none."""
    decoder = Decoder(patch)
    walk = Walk(decoder.decide, base, None)
    while len(walk.u) < 2 * PAGE:
        walk.triple(None)
    if not decoder.is_done:
        raise MalformedError("bytes are left over")
    return bytes(walk.u[PAGE:])


def assemble(triples: Sequence[Triple], page: bytes, base: bytes) -> bytes:
    """The patch with these triples, which need not be clever."""
    encoder = Encoder()
    walk = Walk(encoder.decide, base, page)
    for triple in triples:
        walk.triple(triple)
    assert walk.u == base + page
    return encoder.code()


def triples(page: bytes, base: bytes) -> Iterator[Triple]:
    """Greedy, and of exact matches only: from the first place where the next eight bytes stood."""
    u = base + page
    places: dict[bytes, int] = {}
    for address in range(PAGE - 7):
        places.setdefault(u[address : address + 8], address)
    here = PAGE
    while here < 2 * PAGE:
        diff = 0
        address = places.get(u[here : here + 8], here)
        while address < here and here + diff < 2 * PAGE and u[address + diff] == u[here + diff]:
            diff += 1
        extra = 0
        while here + diff + extra < 2 * PAGE and u[here + diff + extra :][:8] not in places:
            extra += 1
        yield Triple(diff, extra, here - address)
        here += diff + extra


def encode(page: bytes, base: bytes) -> bytes:
    """A patch, not a small one."""
    return assemble(list(triples(page, base)), page, base)
