"""A peer, and what the study asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from difffs.study.passes import PassFunction


@dataclass(frozen=True, slots=True)
class Peer:
    """A variant of a peer that this host can run.

    Its pass returns `stored` (bytes occupied, everything counted that the host tells), `seconds`
    (until the images were in it), and figures of its own kind.
    """

    name: str
    """What it is called in tables, with its parameters."""
    kind: str
    """The pass's name in the cache."""
    version: int
    """Of the pass."""
    function: PassFunction
    parameters: Mapping[str, object] = field(default_factory=dict)
    """With the version of the kernel or the tool that does the work: results depend on it."""
    read: str = "a page"
    """What has to be decoded to read one page."""
    write: str = "a page"
    """What has to be written anew to change one page; "all" when it is read-only."""
    place: str = "memory"
    """Where it keeps the pages: in memory, or in a file that survives."""


class Found(NamedTuple):
    """What a host has and lacks of one peer."""

    peers: list[Peer]
    absent: list[str]
    """Lines "name: reason"."""


def absent(name: str, reason: str) -> Found:
    """A peer that this host lacks altogether."""
    return Found([], [f"{name}: {reason}"])
