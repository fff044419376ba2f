"""Reads a store that is not mounted; prints one JSON object.

``python -m benchmark.refine_reader STORE PAGES``: so many stored pages of all volumes by chance,
one at a time, then the first volume in order. Nothing is compared: exports are.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from difffs.page import PAGE_SIZE, page_count
from difffs.store import Store
from difffs.store.page_tables import ZERO

_AT_ONCE = 256


def read(path: Path, count: int) -> dict[str, Any]:
    """Microseconds of each page by chance, pages a second in order, and pages decoded for each."""
    with Store.open(path, read_only=True) as store:
        volumes = [each for each in store.namespace if each.is_volume]
        stored = [
            (volume.number, page)
            for volume in volumes
            for page, each in enumerate(store.lookup(volume.number, 0, page_count(volume.size)))
            if each > ZERO
        ]
        out = bytearray(_AT_ONCE * PAGE_SIZE)
        microseconds = []
        for number, page in random.Random(1).sample(stored, min(count, len(stored))):
            began = time.perf_counter()
            store.read_pages(number, page, 1, out)
            microseconds.append((time.perf_counter() - began) * 1e6)
        asked, decoded = store.extents.members_read
        first, pages = volumes[0].number, page_count(volumes[0].size)
        began = time.perf_counter()
        for page in range(0, pages, _AT_ONCE):
            store.read_pages(first, page, min(_AT_ONCE, pages - page), out)
        seconds = time.perf_counter() - began
        asked_in_all, decoded_in_all = store.extents.members_read
        return {
            "microseconds": sorted(microseconds),
            "pages_a_second": pages / seconds,
            "decoded": (decoded_in_all - decoded) / max(1, asked_in_all - asked),
        }


if __name__ == "__main__":
    json.dump(read(Path(sys.argv[1]), int(sys.argv[2])), sys.stdout)
