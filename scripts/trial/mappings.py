"""What a process has mapped, and what of it is in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_PLACE = re.compile(
    r"[0-9a-f]+-[0-9a-f]+ (?P<rights>\S{4}) [0-9a-f]+"
    r" (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+) (?P<inode>\d+) *(?P<path>.*)"
)
_SIZES = ("Size", "Rss", "Pss", "Anonymous")


class FileIdentity(NamedTuple):
    """Tells a file, whatever its name; of memory that is nobody's file both are 0."""

    device: int
    inode: int


class Place(NamedTuple):
    """What is mapped somewhere."""

    path: str
    """Empty where it is nobody's file."""
    file: FileIdentity
    rights: str
    """As ``rw-p``: the last letter is ``s`` where it is shared."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping, in bytes."""

    place: Place
    size: int
    resident: int
    proportional: int
    """Resident pages, each divided by how many processes have it."""
    anonymous: int
    """Those that are nobody's file's: of a private mapping of one, what was changed."""


def identity(file: Path) -> FileIdentity:
    """That of a file. ``OSError``."""
    about = file.stat()
    return FileIdentity(about.st_dev, about.st_ino)


def places(process: int) -> Iterator[Place]:
    """Yield what a process has mapped. ``OSError`` when it has ended, or may not be asked."""
    for line in Path(f"/proc/{process}/maps").read_text(errors="replace").splitlines():
        if found := _PLACE.match(line):
            yield _place(found)


def mappings(process: int) -> Iterator[Mapping]:
    """Yield the mappings of a process. ``OSError`` as with :func:`places`."""
    place: Place | None = None
    sizes = dict.fromkeys(_SIZES, 0)
    for line in Path(f"/proc/{process}/smaps").read_text(errors="replace").splitlines():
        if found := _PLACE.match(line):
            if place is not None:
                yield Mapping(place, *sizes.values())
            place, sizes = _place(found), dict.fromkeys(_SIZES, 0)
            continue
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.split()[0]) << 10
    if place is not None:
        yield Mapping(place, *sizes.values())


def _place(found: re.Match[str]) -> Place:
    device = os.makedev(int(found["major"], 16), int(found["minor"], 16))
    return Place(found["path"], FileIdentity(device, int(found["inode"])), found["rights"])
