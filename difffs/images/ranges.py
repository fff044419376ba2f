"""Ranges of addresses or offsets: what has been told already, and what of a new one is new."""

from bisect import bisect_left, bisect_right

MOST_RANGES = 1 << 16
"""Ranges that an image may have once neighbours are joined: its reader's memory is bounded by
them (some 160 bytes for each). Whoever adds has to look at ``len()``."""


class Ranges:
    """A set of integers as ranges from a start up to before an end, which never touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """How many ranges there are, neighbours joined."""
        return len(self._starts)

    def __iter__(self) -> "zip[tuple[int, int]]":
        """(start, end) of each, in order."""
        return zip(self._starts, self._ends, strict=True)

    def add(self, start: int, end: int) -> None:
        """Takes in what lies from `start` up to before `end`, which is more than nothing."""
        if not self._ends or start > self._ends[-1]:
            self._starts.append(start)
            self._ends.append(end)
            return
        # The ranges first up to before after touch the new one and become one with it.
        first = bisect_left(self._ends, start)
        after = bisect_right(self._starts, end)
        if first < after:
            start = min(start, self._starts[first])
            end = max(end, self._ends[after - 1])
        self._starts[first:after] = [start]
        self._ends[first:after] = [end]

    def parts(self, start: int, end: int) -> list[tuple[int, int, bool]]:
        """The range from `start` up to before `end` cut where what is in the set begins and ends:
        (start, end, whether it is new), in order."""
        found: list[tuple[int, int, bool]] = []
        place = bisect_right(self._ends, start)
        while start < end:
            if place == len(self._starts) or self._starts[place] >= end:
                found.append((start, end, True))
                break
            if self._starts[place] > start:
                found.append((start, self._starts[place], True))
                start = self._starts[place]
            found.append((start, min(end, self._ends[place]), False))
            start = self._ends[place]
            place += 1
        return found
