"""What a probe is, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from difffs.doctor.host import Host
from difffs.errors import EnvironmentProblem

Use = Literal["guests", "swap", "images", "study"]
USES: tuple[Use, ...] = ("guests", "swap", "images", "study")

State = Literal["ok", "missing", "limited", "off", "unknown"]
"""``ok``; ``missing``: not there; ``limited``: there, and not enough; ``off``: not there or
switched off, and nothing fails for that; ``unknown``: it cannot be told."""

_FINDINGS: frozenset[State] = frozenset({"missing", "limited"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe has found."""

    state: State
    found: str
    """What was looked at, and how it is: one line."""
    remedy: str = ""
    """What to do: one line; empty where there is nothing to do."""
    matters: bool = True
    """False where it makes no difference on this host, whatever the use."""


def ok(found: str) -> Answer:
    """All is well."""
    return Answer("ok", found)


def missing(found: str, remedy: str, *, matters: bool = True) -> Answer:
    """It is not there."""
    return Answer("missing", found, remedy, matters)


def limited(found: str, remedy: str, *, matters: bool = True) -> Answer:
    """It is there, and not enough."""
    return Answer("limited", found, remedy, matters)


def off(found: str, remedy: str = "") -> Answer:
    """It is not there or switched off, and nothing fails for that."""
    return Answer("off", found, remedy)


def unknown(found: str, remedy: str = "") -> Answer:
    """It cannot be told."""
    return Answer("unknown", found, remedy)


@dataclass(frozen=True, slots=True)
class Check:
    """What is known of one thing on this host."""

    name: str
    state: State
    found: str
    matters_for: tuple[Use, ...]
    remedy: str

    @property
    def is_finding(self) -> bool:
        """Whether something that matters is missing."""
        return self.state in _FINDINGS and bool(self.matters_for)

    def as_json(self) -> dict[str, Any]:
        """The check with its stable keys."""
        return {
            "name": self.name,
            "state": self.state,
            "found": self.found,
            "matters_for": list(self.matters_for),
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that is looked at."""

    name: str
    """``subject.thing``; stays the same from version to version."""
    matters_for: tuple[Use, ...]
    """None where it is good to know only."""
    look: Callable[[Host], Answer]

    def check(self, host: Host) -> Check:
        """Look at it. Never raises what a host can bring about: that is ``unknown``, and why."""
        try:
            answer = self.look(host)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            remedy = "run difffs doctor as root" if isinstance(error, PermissionError) else ""
            answer = unknown(f"{where}{error.strerror or error}", remedy)
        except EnvironmentProblem as error:
            answer = unknown(str(error))
        except (ValueError, IndexError, KeyError) as error:
            answer = unknown(f"what the host says of it makes no sense here: {error}")
        matters_for = self.matters_for if answer.matters else ()
        found, remedy = (" ".join(text.split()) for text in (answer.found, answer.remedy))
        return Check(self.name, answer.state, found, matters_for, remedy)


def probe(name: str, *matters_for: Use) -> Callable[[Callable[[Host], Answer]], Probe]:
    """Make a function that looks at a host a probe of that name."""

    def made(look: Callable[[Host], Answer]) -> Probe:
        return Probe(name, matters_for, look)

    return made
