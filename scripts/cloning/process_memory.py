"""What a process takes of the host's memory, apart from what it has changed of some files."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from trial.mappings import identity, mappings, places


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes of one process."""

    changed: int
    """Of the files' pages, those that it has changed: copies of its own."""
    own: int
    """Its other anonymous memory: heap, stacks, translated code."""
    program: int
    """Its share of the pages of programs and libraries that it has mapped (``Pss``): divided by
    how many processes, of whatever kind, map each page."""
    page_tables: int

    @property
    def private(self) -> int:
        """All but its share of programs."""
        return self.changed + self.own + self.page_tables


def process_memory(process: int, files: Collection[Path]) -> ProcessMemory:
    """Look at a process that has mapped `files` privately. ``OSError`` where that may not be."""
    wanted = {identity(file) for file in files}
    changed = own = program = 0
    for one in mappings(process):
        if one.place.file in wanted:
            changed += one.anonymous
        else:
            own += one.anonymous
            program += one.proportional - one.anonymous
    return ProcessMemory(changed, own, max(0, program), _page_tables(process))


def writes_to(file: Path) -> int | None:
    """Return a process that has mapped a file so that it can change it for others, or None."""
    wanted = identity(file)
    for folder in Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        with contextlib.suppress(OSError):  # gone, or somebody else's
            for place in places(process):
                if place.rights[1::2] == "ws" and place.file == wanted:
                    return process
    return None


def _page_tables(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) << 10
    return 0
