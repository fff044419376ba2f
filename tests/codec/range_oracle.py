"""The range coder of move-to-front ranks in plain Python: obvious and slow."""

from collections.abc import Sequence

from tests.codec.binary_oracle import SEEN_MAXIMUM, Counter, Counters, Decide, Decoder, Encoder

CLASSES = 9


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


def weighted_mean(counters: Sequence[Counter]) -> int:
    weights = sum(each.weight for each in counters)
    return sum(each.weight * each.no for each in counters) // weights


class Model:
    """Everything that both directions know before the next decision."""

    def __init__(self, decide: Decide) -> None:
        self._counters = Counters(decide)
        self._run = self._last = self._before = 0
        self._recent = (0, 0, 0, 0)

    def _ask(self, known: int | None, *contexts: tuple[object, ...], seen: int = 0) -> int:
        return self._counters.ask(known, contexts, weighted_mean, seen)

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
    """The shortest bytes of a number in the interval of these ranks."""
    encoder = Encoder()
    model = Model(encoder.decide)
    for rank in ranks:
        model.rank(rank)
    return encoder.code()


def decode(code: bytes, count: int) -> bytes | None:
    """The ranks; None when no ranks have this code."""
    decoder = Decoder(code)
    model = Model(decoder.decide)
    ranks = [model.rank(None) for _ in range(count)]
    return bytes(ranks) if max(ranks) <= 255 and decoder.is_done else None
