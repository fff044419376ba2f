"""The machine that a study is made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from difffs import __version__


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, kernel and versions: what times depend on."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "processor": processor,
        "cores": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "difffs": __version__,
    }
