"""What a store really occupies."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Bytes; stored = payload + slack + metadata is what the file system has given out."""

    payload: int
    """Live payloads."""
    slack: int
    """The rest of the payload file: dead payloads and unfilled blocks."""
    metadata: int
    """Every other file: index with its free pages, hint tables, lock and format."""

    @property
    def stored(self) -> int:
        """All of it."""
        return self.payload + self.slack + self.metadata


def occupied_bytes(path: Path) -> int:
    """Bytes that the file, or all files below the directory, occupy; missing ones count 0."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    total = status.st_blocks * 512
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            total += sum(occupied_bytes(Path(entry.path)) for entry in entries)
    return total
