"""``python -m benchmark.cluster_client IMAGES PAGES FOLDER [ADDRESS]``: the passes over generated
images, at a scheduler or in this process; results go to the folder. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.cluster_passes import digests_and_detectors
from benchmark.host import peak_memory
from difffs.study.cache import Cache, Result
from difffs.study.context import Context
from difffs.study.executors.executor import Executor
from difffs.study.executors.here import ThisProcess
from difffs.study.sharing import merge


def main(arguments: list[str]) -> int:
    """Run as a command."""
    images, pages = map(int, arguments[:2])
    cache = Cache(Path(arguments[2]))
    began = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        executor: Executor = ThisProcess()
        if address := "".join(arguments[3:]):
            from difffs.study.executors.cluster import ClusterChoice, connected

            choice = ClusterChoice.parse(address, 1)
            executor = stack.enter_context(connected(choice, cache, scratch))
        context = Context([], cache, scratch, executor)
        digests, detectors = digests_and_detectors(images, pages)
        found: dict[str, Any] = {
            "sharing": asdict(merge(context.results(digests))),
            "detectors": _sums(context.results(detectors)),
        }
        found["seconds"] = time.monotonic() - began
    found["peak_rss"] = peak_memory()
    print(json.dumps(found))
    return 0


def _sums(results: Sequence[Result]) -> dict[str, dict[str, int]]:
    sums: dict[str, Counter[str]] = {}
    for result in results:
        for name, of_detector in result["detectors"].items():
            sums.setdefault(name, Counter()).update(of_detector["whole"])
    return {name: dict(counts) for name, counts in sums.items()}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
