"""zswap: the kernel's compressed cache in front of a swap device, here of a loop device.

The images are put into anonymous memory, a piece at a time, and sent to swap from there.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

NAME = "zswap"
_VERSION = 1
_SETTINGS = Path("/sys/module/zswap/parameters")
_DISK = Path("/var/tmp")
"""Where the swap device lies: swapping to a tmpfs, which can be swapped out, may end in a deadlock.
Next to nothing is written to it."""
_COMPRESSORS = ("lzo", "lzo-rle", "lz4", "zstd")
_MADV_PAGEOUT = 21
_ROOM = 512 << 20
"""Of the swap device, for others."""
_ATTEMPTS = 3
_MOST_OTHERS = 0.05
"""The share of what is swapped that may be other processes' memory: a host that reclaims memory of
its own accord finds the swap device, too."""


def find() -> Found:
    """A variant for each compressor of the kernel, where nothing swaps so far."""
    if not (_SETTINGS / "enabled").exists():
        return absent(NAME, "this kernel has no zswap")
    if os.geteuid() != 0:
        return absent(NAME, "swapping needs root")
    for program in ("losetup", "mkswap", "swapon"):
        if reason := host.tool_obstacle(program, "mount and util-linux"):
            return absent(NAME, reason)
    with host.alone(_SETTINGS / "enabled"):
        swapping = Path("/proc/swaps").read_bytes().count(b"\n") > 1
    if swapping:
        return absent(NAME, "this host swaps: its own pages would be counted")
    if "zswpout" not in read_figures(Path("/proc/vmstat")):
        return absent(NAME, "this kernel does not count what goes to it")
    known = compressors(Path("/proc/crypto").read_text())
    peers = [
        Peer(
            f"zswap {name}",
            "zswap",
            _VERSION,
            measure,
            {"compressor": name, "kernel": host.kernel()},
        )
        for name in _COMPRESSORS
        if name in known
    ]
    lacking = [
        f"zswap {name}: this kernel's crypto API has no {name}"
        for name in ("lzo", "lz4", "zstd")
        if name not in known
    ]
    return Found(peers, lacking)


def measure(images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Send the images to swap with `compressor` in front of it."""
    logical = host.total_bytes(images)
    attempts: list[dict[str, float]] = []
    while len(attempts) < _ATTEMPTS and not any(_others(one) == 0 for one in attempts):
        with host.undone_when_interrupted():
            attempts.append(_swap(images, parameters["compressor"]))
    found = min(attempts, key=_others)
    if _others(found) > _MOST_OTHERS * logical:
        raise EnvironmentProblem("other processes' memory was swapped out as well")
    share = found["own_swapped"] / max(1, found["all_swapped"])
    counted = {
        "pool": round(found["pool"] * share),
        "on_device": round(found["pswpout"] * PAGE_SIZE * share),
        "resident": max(0, logical - round(found["own_swapped"])),
    }
    return {"stored": sum(counted.values()), "seconds": found["seconds"], **counted}


def _others(found: Mapping[str, float]) -> float:
    """Bytes of other processes that were swapped out."""
    return max(0, found["all_swapped"] - found["own_swapped"])


def _swap(images: Sequence[Image], compressor: str) -> dict[str, float]:
    """How the kernel's figures have changed, and `seconds`."""
    with ExitStack() as stack:
        stack.enter_context(host.alone(_SETTINGS / "enabled"))
        # swap off before the settings are put back: memory returns through them
        for name, value in {"compressor": compressor, "enabled": "Y"}.items():
            stack.enter_context(host.setting(_SETTINGS / name, value))
        stack.enter_context(_swap_device(host.total_bytes(images)))
        before = _figures()
        held: list[mmap.mmap] = []
        stack.callback(_close, held)
        began = time.monotonic()
        for chunk in host.chunks(images):
            held.append(_swapped_out(chunk))
        seconds = time.monotonic() - began
        after = _figures()
    return {"seconds": seconds} | {name: after[name] - before[name] for name in before}


def compressors(text: str) -> set[str]:
    """The compression algorithms among those of /proc/crypto."""
    found = set()
    for block in text.split("\n\n"):
        lines = (line.partition(":") for line in block.splitlines())
        entry = {key.strip(): value.strip() for key, _, value in lines}
        if entry.get("type") in ("compression", "scomp", "acomp"):
            found.add(entry["name"])
    return found


def read_figures(path: Path) -> dict[str, int]:
    """The figures of a file such as /proc/vmstat, /proc/meminfo, /proc/self/status; kB as bytes."""
    found = {}
    for line in path.read_text().splitlines():
        name, *words = line.replace(":", " ").split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def _figures() -> dict[str, int]:
    memory = read_figures(Path("/proc/meminfo"))
    return {
        "pool": memory["Zswap"],
        "pswpout": read_figures(Path("/proc/vmstat"))["pswpout"],
        "all_swapped": memory["SwapTotal"] - memory["SwapFree"],
        "own_swapped": read_figures(Path("/proc/self/status"))["VmSwap"],
    }


def _swapped_out(pages: memoryview) -> mmap.mmap:
    """Make anonymous memory of some pages and send it to swap."""
    memory = mmap.mmap(-1, len(pages), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory[:] = pages
    # twice: pages that went to the device itself are let go when they have arrived there
    for _attempt in range(2):
        memory.madvise(_MADV_PAGEOUT)
    return memory


def _close(held: list[mmap.mmap]) -> None:
    for memory in held:
        memory.close()


@contextmanager
def _swap_device(size: int) -> Iterator[None]:
    """Swap to a file that has room for all."""
    if shutil.disk_usage(_DISK).free < size:
        raise EnvironmentProblem(f"{_DISK} has no room for a swap device")
    with (
        tempfile.TemporaryDirectory(prefix="difffs-study-", dir=_DISK) as folder,
        host.sparse_file(Path(folder) / "swap", size + _ROOM) as file,
        host.loop_device(file) as device,
    ):
        host.run_tool("mkswap", device)
        host.run_tool("swapon", device)
        try:
            yield
        finally:
            host.run_tool("swapoff", device)
