"""Refines a store with one worker; prints one JSON object.

``python -m benchmark.refine_worker STORE TIER SECONDS``: what it took of the processor, and the
most memory that the process had at a time, the mapped files of the store counted. SECONDS 0: to
its end.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from difffs.refine.refiner import Refiner
from difffs.refine.tiers import tier_named
from difffs.store import Store


def refine(path: Path, tier: str, seconds: float | None) -> dict[str, Any]:
    """One pass, from its first page to the last commit, or for so long."""
    with Store.open(path) as store:
        began = time.process_time()
        progress = Refiner(store, tier_named(tier), workers=1).run(seconds)
        spent = time.process_time() - began
        stored = store.occupancy().stored
    return {
        "pages": progress.pages,
        "pages_to_go": progress.pages_to_go,
        "members": progress.members,
        "cpu_seconds": spent,
        "stored": stored,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    json.dump(refine(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) or None), sys.stdout)
