"""The binary range coder in plain Python: exact arithmetic, obvious and slow.

The encoder narrows an interval of whole numbers and never looks at bytes before the end.
"""

from collections.abc import Callable, Sequence
from itertools import count as counting

SEEN_MAXIMUM = 16
WEIGHT_MAXIMUM = 9
MARGIN = 32
"""Of 65,536: no decision is taken for more certain than that."""

Decide = Callable[[int, int | None], int]
"""From the probability of "no" and the decision where it is known, to the decision."""

Choose = Callable[[Sequence[int], int | None], int]
"""From the probability of lesser symbols for each symbol (the first is 0), and the symbol where it
is known, to the symbol."""


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


class Counters:
    """Everything that both directions know before the next decision: a counter a context."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._counters: dict[tuple[object, ...], Counter] = {}

    def ask(
        self,
        known: int | None,
        contexts: Sequence[tuple[object, ...]],
        probability: Callable[[Sequence[Counter]], int],
        seen: int = 0,
    ) -> int:
        """The decision; the counters of all contexts learn it."""
        counters = [self._counters.setdefault(each, Counter(seen)) for each in contexts]
        decision = self._decide(min(max(probability(counters), MARGIN), 65536 - MARGIN), known)
        for each in counters:
            each.learn(decision)
        return decision


def _bounds(width: int, below: Sequence[int]) -> list[int]:
    return [*(width * each >> 16 for each in below), width]


class Encoder:
    """An interval of numbers, as fractions below 1."""

    def __init__(self) -> None:
        self._low, self._width, self._scale = 0, 2**32 - 1, 2**32

    def decide(self, no: int, known: int | None) -> int:
        return self.choose((0, no), known)

    def choose(self, below: Sequence[int], known: int | None) -> int:
        assert known is not None
        bounds = _bounds(self._width, below)
        self._low, self._width = self._low + bounds[known], bounds[known + 1] - bounds[known]
        while self._width < 2**24:
            self._low, self._width, self._scale = self._low << 8, self._width << 8, self._scale << 8
        return known

    def code(self) -> bytes:
        """The shortest bytes of a number in the interval."""
        for zeros in counting(31, -1):  # as many zeros at the end as possible
            number = (self._low + (1 << zeros) - 1) >> zeros << zeros
            if number < self._low + self._width:
                return number.to_bytes((self._scale.bit_length() - 1) // 8, "big").rstrip(b"\x00")
        raise AssertionError


class Decoder:
    """The place of a code in the interval."""

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._taken = 4
        self._width, self._number = 2**32 - 1, int.from_bytes(code[:4].ljust(4, b"\x00"), "big")

    def decide(self, no: int, known: int | None) -> int:
        return self.choose((0, no), known)

    def choose(self, below: Sequence[int], known: int | None) -> int:
        assert known is None
        bounds = _bounds(self._width, below)
        chosen = max(i for i in range(len(below)) if bounds[i] <= self._number)
        self._width = bounds[chosen + 1] - bounds[chosen]
        self._number -= bounds[chosen]
        while self._width < 2**24:
            byte = self._code[self._taken] if self._taken < len(self._code) else 0
            self._width, self._taken = self._width << 8, self._taken + 1
            self._number = (self._number << 8 | byte) % 2**32
        return chosen

    @property
    def is_done(self) -> bool:
        """Whether an encoder would end here: no bytes are left over, and no zeros end it."""
        return self._taken >= len(self._code) and not self._code.endswith(b"\x00")
