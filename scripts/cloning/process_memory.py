"""What a process takes of the host's memory, apart from what it has changed of some files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_MAPPING = re.compile(
    r"[0-9a-f]+-[0-9a-f]+ (?P<rights>\S{4}) [0-9a-f]+"
    r" (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+) (?P<inode>\d+)"
)


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
    wanted = {_identity(file) for file in files}
    changed = own = program = 0
    is_file = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if found := _MAPPING.match(line):
            is_file = _identity_of(found) in wanted
            continue
        name, _, value = line.partition(":")
        if name not in ("Pss", "Anonymous"):
            continue
        size = int(value.split()[0]) << 10
        if name == "Anonymous":
            changed += size if is_file else 0
            own += 0 if is_file else size
        if not is_file:  # anonymous memory is in Pss, too, and taken out again
            program += size if name == "Pss" else -size
    return ProcessMemory(changed, own, max(0, program), _page_tables(process))


def writes_to(file: Path) -> int | None:
    """Return a process that has mapped a file so that it can change it for others, or None."""
    wanted = _identity(file)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "maps").read_text(errors="replace").splitlines()
        except OSError:
            continue  # gone, or somebody else's
        for line in lines:
            found = _MAPPING.match(line)
            if found and found["rights"][1::2] == "ws" and _identity_of(found) == wanted:
                return int(folder.name)
    return None


def _identity(file: Path) -> tuple[int, int]:
    about = file.stat()
    return about.st_dev, about.st_ino


def _identity_of(mapping: re.Match[str]) -> tuple[int, int]:
    device = os.makedev(int(mapping["major"], 16), int(mapping["minor"], 16))
    return device, int(mapping["inode"])


def _page_tables(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) << 10
    return 0
