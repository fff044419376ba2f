"""The range coder of move-to-front ranks in plain Python: exact arithmetic, obvious and slow.

The encoder narrows an interval of whole numbers and never looks at bytes before the end.
"""

from collections.abc import Callable
from itertools import count as counting

CLASSES = 9
SEEN_MAXIMUM = 16
WEIGHT_MAXIMUM = 9
MARGIN = 32
"""Of 65,536: no decision is taken for more certain than that."""

Decide = Callable[[int, int | None], int]
"""From the probability of "no" and the decision where it is known, to the decision."""


class Counter:
    """How often a decision was "no"."""

    def __init__(self, seen: int = 0) -> None:
        self.no = 32768
        self.seen = seen

    @property
    def weight(self) -> int:
        return min(2 * self.seen + 1, WEIGHT_MAXIMUM)

    def learn(self, decision: int) -> None:
        rate = 655360 // (10 * self.seen + 16)
        change = ((0 if decision else 65535) - self.no) * rate
        self.no += change // 65536 if change >= 0 else -(-change // 65536)
        self.seen = min(self.seen + 1, SEEN_MAXIMUM)


def kind_of(rank: int) -> int:
    return next(kind for kind, last in enumerate([0, 1, 2, 4, 8, 16, 64, 256]) if rank <= last)


def run_of(run: int) -> int:
    limits = [0, 1, 2, 3, 5, 8, 16, 32, 64]
    return next((place for place, last in enumerate(limits) if run <= last), len(limits))


def class_limits(rank_class: int) -> tuple[int, int]:
    """The first rank of the class, and how many bits tell the place in it."""
    if rank_class < 2:
        return rank_class + 1, 0
    return (1 << rank_class - 1) + 1, rank_class - 1


class Model:
    """Everything that both directions know before the next decision."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._counters: dict[tuple[object, ...], Counter] = {}
        self._run = self._last = self._before = 0
        self._recent = (0, 0, 0, 0)

    def _ask(self, known: int | None, *contexts: tuple[object, ...], seen: int = 0) -> int:
        counters = [self._counters.setdefault(each, Counter(seen)) for each in contexts]
        if len(counters) == 1:
            no = counters[0].no
        else:
            weights = sum(each.weight for each in counters)
            no = sum(each.weight * each.no for each in counters) // weights
        decision = self._decide(min(max(no, MARGIN), 65536 - MARGIN), known)
        for each in counters:
            each.learn(decision)
        return decision

    def rank(self, known: int | None) -> int:
        """The next rank; `known` where encoding."""
        run = run_of(self._run)
        rank = 0
        if self._ask(
            None if known is None else int(known != 0),
            ("zero, run", run, self._last),
            ("zero, recent", self._recent),
            ("zero",),
        ):
            rank = self._above_zero(known, run)
            self._before, self._last, self._run = self._last, kind_of(rank), 0
        else:
            self._run += 1
        self._recent = (*self._recent[1:], min(rank, 2) if rank < 4 else 3)
        return rank

    def _above_zero(self, known: int | None, run: int) -> int:
        for chosen in range(CLASSES):
            first, bits = class_limits(chosen)
            beyond = None if known is None else int(known >= first + (1 << bits))
            if chosen == CLASSES - 1 or not self._ask(
                beyond,
                ("class, kinds", chosen, self._last, self._before),
                ("class, run", chosen, run),
                ("class", chosen),
            ):
                break
        node = 1
        for bit in reversed(range(bits)):
            wanted = None if known is None else (known - first) >> bit & 1
            node = 2 * node + self._ask(wanted, ("place", chosen, node), seen=SEEN_MAXIMUM)
        return first + node - (1 << bits)


def encode(ranks: bytes) -> bytes:
    """The shortest bytes of a number in the interval of these ranks, as a fraction below 1."""
    low, width, scale = 0, 2**32 - 1, 2**32

    def decide(no: int, known: int | None) -> int:
        nonlocal low, width, scale
        assert known is not None
        bound = width * no >> 16
        low, width = (low + bound, width - bound) if known else (low, bound)
        while width < 2**24:
            low, width, scale = low << 8, width << 8, scale << 8
        return known

    model = Model(decide)
    for rank in ranks:
        model.rank(rank)
    for zeros in counting(31, -1):  # as many zeros at the end as possible
        number = (low + (1 << zeros) - 1) >> zeros << zeros
        if number < low + width:
            return number.to_bytes((scale.bit_length() - 1) // 8, "big").rstrip(b"\x00")
    raise AssertionError


def decode(code: bytes, count: int) -> bytes | None:
    """The ranks; None when no ranks have this code."""
    taken = 4
    width, number = 2**32 - 1, int.from_bytes(code[:4].ljust(4, b"\x00"), "big")

    def decide(no: int, known: int | None) -> int:
        nonlocal width, number, taken
        bound = width * no >> 16
        decision = int(number >= bound)
        width, number = (width - bound, number - bound) if decision else (bound, number)
        while width < 2**24:
            byte = code[taken] if taken < len(code) else 0
            width, number, taken = width << 8, (number << 8 | byte) % 2**32, taken + 1
        return decision

    model = Model(decide)
    ranks = [model.rank(None) for _ in range(count)]
    if max(ranks) > 255 or taken < len(code) or code.endswith(b"\x00"):
        return None
    return bytes(ranks)
