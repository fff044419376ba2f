"""A folder for a store and what belongs to it, for as long as something is tried."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trial import guest

_SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def folder_with_room(purpose: str, room: int) -> Iterator[Path]:
    """An empty folder for store, mount and console: in memory where twice `room` bytes are free."""
    base = guest.cache_folder()
    if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free > 2 * room:
        base = _SHARED_MEMORY
    with tempfile.TemporaryDirectory(prefix=f"difffs-{purpose}-", dir=base) as name:
        yield Path(name)
