"""bsdiff made for pages in plain Python: slow, obvious, and the judge of native/page_bsdiff.c.

One walk through a patch serves both directions: every part takes what is known where a patch is
made, and None where it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.codec.binary_oracle import Counter, Counters, Decoder, Encoder
from tests.codec.symbol_oracle import SymbolCounters

PAGE = 4096


class MalformedError(ValueError):
    """The bytes are no patch."""


@dataclass(frozen=True)
class Triple:
    """`diff` bytes of the page like those `distance` before them, then `extra` others."""

    diff: int
    extra: int
    distance: int = PAGE


def its_own(counters: Sequence[Counter]) -> int:
    (only,) = counters
    return only.no


class Walk:
    """What both directions have done and learned so far."""

    def __init__(self, coder: Encoder | Decoder, base: bytes, page: bytes | None) -> None:
        self._decide = coder.decide
        self._counters = Counters(coder.decide)
        self._symbols = SymbolCounters(coder.choose)
        self._page = page
        self._distance = PAGE
        self._groups = (0, 0, 0, 0)
        self.u = bytearray(base)

    def _ask(self, known: int | None, context: tuple[object, ...]) -> int:
        return self._counters.ask(known, (context,), its_own)

    def _choose(self, known: int | None, *contexts: tuple[object, ...]) -> int:
        return self._symbols.ask(known, contexts)

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
        """0 to 32,767."""
        bits = self._choose(None if known is None else known.bit_length(), (name, "bits"))
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
        number = 0
        for half in ("upper", "lower"):
            wanted = None if known is None else known // 16 if half == "upper" else known % 16
            before = number if half == "lower" else None
            number = 16 * number + self._choose(
                wanted,
                (name, "at", len(self.u) % 8, before),
                (name, "by", neighbour >> 3, before),
            )
        return number

    def _group(self, size: int) -> None:
        places = range(len(self.u) % 8, len(self.u) % 8 + size)
        changed = None
        if self._page is not None:
            changed = sum(
                1 << place for i, place in enumerate(places) if self._known(i) != self._old(i)
            )
        is_changed = self._ask(
            None if changed is None else int(changed > 0), ("is group changed", self._groups)
        )
        self._groups = (*self._groups[1:], is_changed)
        if is_changed:
            first = self._choose(None if changed is None else changed % 16, ("first changes",))
            last = self._choose(None if changed is None else changed // 16, ("last changes", first))
            changed = 16 * last + first
        else:
            changed = 0
        for place in places:
            old, new = self._old(), self._known()
            if changed >> place & 1:
                difference = None if new is None else (new - old) % 256
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
    walk = Walk(decoder, base, None)
    while len(walk.u) < 2 * PAGE:
        walk.triple(None)
    if not decoder.is_done:
        raise MalformedError("bytes are left over")
    return bytes(walk.u[PAGE:])


def assemble(triples: Sequence[Triple], page: bytes, base: bytes) -> bytes:
    """The patch with these triples, which need not be clever."""
    encoder = Encoder()
    walk = Walk(encoder, base, page)
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
