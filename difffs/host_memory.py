"""What files of mounts cost the host in memory, everything counted: their pages that are resident,
and what keeps the others.

This is asked from outside of the daemon: a daemon that looked at files of its own mount could wait
for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from difffs.mount.live import read_statistics
from difffs.page_cache import resident_bytes_of


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of the host's memory."""

    nominal: int
    """What the files would take without difffs."""
    resident: int
    """Of them, in the page cache."""
    stores: int
    """Of their stores, in the page cache or on a tmpfs: payloads, index and hint tables."""
    daemons: int
    """Memory of the daemons' own, write buffers included."""

    @property
    def used(self) -> int:
        """All that they take."""
        return self.resident + self.stores + self.daemons

    @property
    def saved(self) -> int:
        """What they take less than without difffs; negative when it is more."""
        return self.nominal - self.used

    def as_json(self) -> dict[str, int]:
        """All figures, with stable keys."""
        return {**asdict(self), "used": self.used, "saved": self.saved}


def resident_of(paths: Iterable[str]) -> int:
    """How much of the files is in the page cache; those that may not be asked count as nothing."""
    return sum(resident_bytes_of(Path(path)) or 0 for path in paths)


def host_memory(nominal: int, resident: int, mountpoints: Iterable[str]) -> HostMemory:
    """Add what the daemons behind these mounts, and their stores, take. ``OSError``."""
    stores = daemons = 0
    for mountpoint in mountpoints:
        memory = read_statistics(mountpoint)["memory"]
        stores += memory["page_cache"]
        daemons += memory["daemon_rss"]
    return HostMemory(nominal, resident, stores, daemons)
