"""Symbols of four bits for the range coder, in plain Python: the judge of native/symbol_coder.h."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor

from tests.codec.binary_oracle import Choose

SYMBOLS = 16
SEEN_MAXIMUM = 16
MINIMUM = 64
"""Of 32,768: what a symbol keeps that never comes."""


class SymbolCounter:
    """How often each symbol has come."""

    def __init__(self) -> None:
        self.below = [2048 * symbol for symbol in range(SYMBOLS)]
        self.seen = 0

    def learn(self, symbol: int) -> None:
        rate = 327680 // (10 * self.seen + 25)
        only = [
            MINIMUM * each if each <= symbol else 32768 - MINIMUM * (SYMBOLS - each)
            for each in range(SYMBOLS)
        ]
        for each in range(SYMBOLS):
            change = Fraction((only[each] - self.below[each]) * rate, 65536)
            self.below[each] += 2 * floor(change)
        self.seen = min(self.seen + 1, SEEN_MAXIMUM)


class SymbolCounters:
    """Everything that both directions know before the next symbol: a counter a context."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._counters: dict[tuple[object, ...], SymbolCounter] = {}

    def ask(self, known: int | None, contexts: Sequence[tuple[object, ...]]) -> int:
        """The symbol, by the mean of one or two contexts' counters, which learn it."""
        counters = [self._counters.setdefault(each, SymbolCounter()) for each in contexts]
        below = [
            sum(each.below[symbol] for each in counters) * 2 // len(counters)
            for symbol in range(SYMBOLS)
        ]
        symbol = self._choose(below, known)
        for each in counters:
            each.learn(symbol)
        return symbol
