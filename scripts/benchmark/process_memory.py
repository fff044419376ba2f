"""What processes hold in memory, by mapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of a process, in bytes."""

    path: str
    """Empty where it is nobody's file."""
    size: int
    resident: int
    proportional: int
    """Resident pages, each divided by how many processes have it."""


def mappings(process: int) -> Iterator[Mapping]:
    """Yield the mappings of a process; none when it has ended."""
    try:
        text = Path(f"/proc/{process}/smaps").read_text()
    except OSError:
        return
    path, found = "", {"Size:": 0, "Rss:": 0, "Pss:": 0}
    for line in text.splitlines():
        head = line.split(None, 5)
        if head[0] in found:
            found[head[0]] = int(head[1]) << 10
        elif head[0] == "VmFlags:":  # the last line of each
            yield Mapping(path, found["Size:"], found["Rss:"], found["Pss:"])
        elif not head[0].endswith(":"):
            path = head[5] if len(head) > 5 else ""
