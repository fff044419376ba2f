"""A mount of the difffs of this Python, driven by fio; prints one JSON object.

``python -m wheels.mount_worker FOLDER SIZE`` makes a store in FOLDER, writes SIZE bytes to it in
random pages through the mount, has fio verify them, and reads them in random pages.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmark import fio, mounts
from benchmark.fio import Job

_PAGE = 4096


def measure(folder: Path, size: int) -> dict[str, float]:
    """Return rates, and the daemon's processor time a page, of direct 4 KiB writes and reads."""
    found: dict[str, float] = {}
    with mounts.Difffs(folder / "mount", folder / "store") as system:
        for mode in ("randwrite", "randread"):
            job = Job(mode, _PAGE, 1, direct=True)
            before = system.cpu_seconds()
            outcome = fio.run(job, size, folder=system.folder)
            system.settle()
            spent = system.cpu_seconds() - before
            found[f"{mode} pages/s"] = outcome.operations_per_second
            found[f"{mode} daemon pages/CPU s"] = size / _PAGE / spent
            if job.writes:
                fio.verify(job, size, folder=system.folder)
    return found


if __name__ == "__main__":
    json.dump(measure(Path(sys.argv[1]), int(sys.argv[2])), sys.stdout)
