"""The machine that is measured on, and whether it has other things to do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from trial.mappings import mappings


def load_average() -> float:
    """Return the load of the last minute."""
    return os.getloadavg()[0]


def memory_available() -> int:
    """Return the bytes that can be taken without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].strip("* ") if lines else None


def describe() -> dict[str, Any]:
    """Return what a reader of the figures has to know."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_bytes": total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "zstd": _first_line("zstd", "--version"),
        "fio": _first_line("fio", "--version"),
        "qemu": _first_line("qemu-system-x86_64", "--version"),
    }


def peak_memory(process: int | None = None) -> int:
    """Return the most bytes that a process, by default this one, has had resident so far.

    (Not getrusage(): that begins with what the process had before it became this program.)
    """
    for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class CpuClock:
    """The processor time that a process uses up, in seconds."""

    def __init__(self, process: int) -> None:
        self._file = Path(f"/proc/{process}/stat")
        self._tick = os.sysconf("SC_CLK_TCK")

    def seconds(self) -> float:
        """Return user and system time so far; 0 when the process has ended."""
        try:
            words = self._file.read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(words[11]) + int(words[12])) / self._tick


def own_memory(process: int, store: Path | None = None) -> int:
    """Return the resident bytes of a process that are not the mapped files of ``store``.

    The store's files are counted by the room that they occupy; everything else that the process
    holds, its write buffer and its libraries included, is counted here.
    """
    prefix = str(store.resolve()) + "/" if store is not None else "\0"
    return sum(one.resident for one in mappings(process) if not one.place.path.startswith(prefix))


def occupied(folder: Path) -> int:
    """Return the bytes that the files below a folder occupy."""
    return sum(
        os.stat(os.path.join(directory, name)).st_blocks * 512
        for directory, _, names in os.walk(folder)
        for name in names
    )


def memory_kinds() -> dict[str, int]:
    """Return the resident bytes of this process: ``anonymous``, ``file`` and ``shared`` mappings.

    On tmpfs the store's mapped files are ``shared``, on a disk ``file``.
    """
    names = {"RssAnon:": "anonymous", "RssFile:": "file", "RssShmem:": "shared"}
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, rest = line.partition("\t")
        if key in names:
            found[names[key]] = int(rest.split()[0]) * 1024
    return found
