"""How much of a command's memory stays resident: a size, a part of its guest RAM, or what it needs.

Rules know nothing of control groups but what a group uses; who follows them is
:mod:`difffs.running.watch`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from difffs.cgroup.group import Usage
from difffs.errors import UsageError
from difffs.page import PAGE_SIZE
from difffs.size import format_size, parse_size

LEAST_BYTES = 16 << 20
"""No rule asks for less: a process below it does little but wait."""

PRESSURE_BOUND = 0.01
"""Part of the time that may be spent waiting for memory, at most, as `auto` keeps it."""

REFAULT_US = 250
"""What a page that is needed again counts as where the kernel does not measure the waiting: a fault
through the mount, with what it displaces."""

PROBED_A_SECOND = 0.03
"""Part of the resident memory that `auto` takes away in a second in which nobody waits."""

HEADROOM = 0.06
"""How much may be added to what is resident before the next look, without any waiting."""

_LEAST_HEADROOM = 8 << 20
_RAISE = 0.05
_FIRST_REST, _LONGEST_REST = 2.0, 30.0
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%\Z")


class Limits(NamedTuple):
    """What a rule asks for: what is above `down_to` is to leave now, `up_to` is the limit then."""

    down_to: int | None
    up_to: int | None


class Rule(Protocol):
    """Decides on a limit, again and again."""

    def limits(self, usage: Usage, guest_bytes: int, seconds: float) -> Limits:
        """Decide by what is used now, the guest RAM that is mapped, and the seconds since the last
        decision."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """So many bytes, for all that the command has."""

    size: int

    def limits(self, usage: Usage, guest_bytes: int, seconds: float) -> Limits:
        """Always the same."""
        return Limits(self.size, self.size)

    def __str__(self) -> str:
        """Return it as people write it."""
        return format_size(self.size)


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the guest RAM: of the files of mounts that the command maps. Its own memory, which
    cannot go to a store, is added."""

    part: float

    def limits(self, usage: Usage, guest_bytes: int, seconds: float) -> Limits:
        """No limit as long as nothing is mapped."""
        if not guest_bytes:
            return Limits(None, None)
        wanted = max(int(self.part * guest_bytes) + usage.anonymous, LEAST_BYTES)
        return Limits(wanted, wanted)

    def __str__(self) -> str:
        """Return it as people write it."""
        return f"{100 * self.part:g}%"


class Auto:
    """What is needed: a little is taken away as long as nobody waits for memory, and given back at
    once when somebody does (as Meta's senpai has it, with a rest after each mistake that becomes
    longer with every one in a row)."""

    def __init__(self) -> None:
        """Begin without a limit."""
        self._earlier: Usage | None = None
        self._rest = 0.0
        self._next_rest = _FIRST_REST
        self._ceiling: int | None = None

    def limits(self, usage: Usage, guest_bytes: int, seconds: float) -> Limits:
        """Decide by what was waited since the last decision."""
        earlier, self._earlier = self._earlier, usage
        if earlier is None or seconds <= 0:
            return Limits(None, None)
        pressure = _waited_us(earlier, usage) / (seconds * 1e6)
        headroom = max(int(HEADROOM * usage.resident), _LEAST_HEADROOM)
        if pressure > PRESSURE_BOUND:
            back = (usage.refaults - earlier.refaults) * PAGE_SIZE
            given = max(int(_RAISE * usage.resident), 2 * back)
            self._rest = self._next_rest
            self._next_rest = min(2 * self._next_rest, _LONGEST_REST)
            self._ceiling = max(self._ceiling or 0, usage.resident + headroom) + given
            return Limits(None, self._ceiling)
        if self._rest > 0:
            self._rest -= seconds
            self._ceiling = max(self._ceiling or 0, usage.resident + headroom)
            return Limits(None, self._ceiling)
        self._next_rest = max(self._next_rest * (1 - seconds / _LONGEST_REST), _FIRST_REST)
        calm = 1 - pressure / PRESSURE_BOUND
        taken = int(usage.resident * PROBED_A_SECOND * min(seconds, 1.0) * calm)
        down_to = max(usage.resident - taken, usage.anonymous, LEAST_BYTES)
        self._ceiling = down_to + headroom
        return Limits(down_to, self._ceiling)

    def __str__(self) -> str:
        """Return it as people write it."""
        return "auto"


def _waited_us(earlier: Usage, later: Usage) -> int:
    if earlier.waited_us is not None and later.waited_us is not None:
        return later.waited_us - earlier.waited_us
    return (later.refaults - earlier.refaults) * REFAULT_US


def parse_rule(text: str) -> Rule:
    """Return the rule that `--resident` names. ``UsageError``."""
    if text.strip().lower() == "auto":
        return Auto()
    if found := _PERCENT.match(text.strip()):
        part = float(found[1]) / 100
        if not 0 < part <= 1:
            raise UsageError(f"--resident {text}: above 0% and at most 100%")
        return Share(part)
    try:
        size = parse_size(text)
    except UsageError:
        raise UsageError(
            f"--resident {text}: give a size (512M), a part of the guest RAM (50%) or auto"
        ) from None
    if size < LEAST_BYTES:
        raise UsageError(f"--resident {text}: at least {format_size(LEAST_BYTES)}")
    return Fixed(size)
