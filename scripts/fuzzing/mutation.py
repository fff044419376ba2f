"""Mutations of inputs, where no coverage guides: by what the readers say of them."""

import random
import re
from collections.abc import Iterator
from typing import Literal

from fuzzing.outcomes import Outcome, Result
from fuzzing.short_form import MARK

MOST_KEPT = 4096
LONGEST = 8192
"""Bytes of an input, in the short form."""

_NUMBERS = (
    *(0, 1, 2, 3, 4, 8, 9, 16, 24, 32, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 4096),
    *(4104, 8192, 32768, 65535, 65536, 1 << 20, (1 << 20) + 1, 1 << 30, (1 << 31) - 1, 1 << 31),
    *((1 << 32) - 1, 1 << 32, 1 << 40, 1 << 44, 1 << 48, 1 << 52, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 4096, (1 << 64) - 1),
)
_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
_DIGITS = re.compile(r"0x[0-9a-f]+|[0-9][0-9,]*|'.*'")


def key_of(result: Result) -> tuple[str, str]:
    """What was said of an input, but for numbers and names."""
    return result[0].value, _DIGITS.sub("0", result[1])


class Mutator:
    """Makes inputs of those that it has; those with which something new was said are kept."""

    def __init__(self, inputs: list[bytes], seed: int) -> None:
        self._random = random.Random(seed)
        self.kept = [each for each in inputs if each] or [b"\0"]
        self.accepted: list[bytes] = []
        """Those of them that were read to the end: nearly all others are refused soon."""
        self._said: set[tuple[str, str]] = set()

    def inputs(self) -> Iterator[bytes]:
        """Without end."""
        while True:
            yield self._mutated()

    def heard(self, data: bytes, result: Result) -> None:
        """What became of an input."""
        said = key_of(result)
        if said not in self._said and len(self._said) < MOST_KEPT:
            self._said.add(said)
            self.kept.append(data)
            if result[0] is Outcome.ACCEPTED:
                self.accepted.append(data)

    def begun(self, data: bytes, result: Result) -> None:
        """What became of one of the inputs to begin with."""
        self._said.add(key_of(result))
        if data and result[0] is Outcome.ACCEPTED:
            self.accepted.append(data)

    def _mutated(self) -> bytes:
        choose = self._random.random
        kept = self.kept
        bases = self.accepted if self.accepted and choose() < 0.3 else kept
        data = bytearray(bases[int(choose() * len(bases))])
        for _ in range(1 + int(choose() * choose() * 4)):
            size = len(data)
            if not size:
                data += b"\0"
                size = 1
            at = int(choose() * size)
            match int(choose() * 12):
                case 0:
                    data[at] ^= 1 << int(choose() * 8)
                case 1:
                    data[at] = int(choose() * 256)
                case 2 | 3 | 4:
                    width = (1, 2, 4, 4, 8, 8)[int(choose() * 6)]
                    number = _NUMBERS[int(choose() * len(_NUMBERS))] & (1 << 8 * width) - 1
                    order = _ORDERS[choose() < 0.5]
                    data[at : at + width] = number.to_bytes(width, order)
                case 5 | 6:
                    width = (1, 2, 4, 8)[int(choose() * 4)]
                    order = _ORDERS[choose() < 0.5]
                    old = int.from_bytes(data[at : at + width], order)
                    step = (1 << int(choose() * 14)) * (1 if choose() < 0.5 else -1)
                    number = (old + step) & (1 << 8 * width) - 1
                    data[at : at + width] = number.to_bytes(width, order)
                case 7:
                    del data[at : at + 1 + int(choose() ** 3 * (size - at))]
                case 8:
                    part = data[at : at + 1 + int(choose() ** 3 * (size - at))]
                    into = int(choose() * size)
                    data[into:into] = part
                case 9:
                    other = kept[int(choose() * len(kept))]
                    if choose() < 0.5:
                        data[at:] = other[int(choose() * len(other)) :]
                    else:
                        data[at:] = other[at:]
                case 10:
                    kind = int(choose() * 4) if choose() < 0.5 else 128 + int(choose() * 8)
                    length = (16, 512, 4096, 4096, 4095, 8192)[int(choose() * 6)]
                    data[at:at] = MARK + bytes([kind]) + length.to_bytes(2, "big")
                case 11:
                    source = int(choose() * size)
                    width = (1, 2, 4, 8, 16)[int(choose() * 5)]
                    data[at : at + width] = data[source : source + width]
        return bytes(data[:LONGEST])
