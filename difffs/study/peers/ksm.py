"""KSM: the kernel merges identical pages of memory that is given to it; nothing is compressed."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.page import PAGE_SIZE
from difffs.size import format_size
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.peers.peer import Found, Peer, absent

NAME = "KSM"
LIMIT = 1152 << 20
"""The most that a pass holds in memory: KSM merges what is resident, all of it at once."""

_VERSION = 2
_FOLDER = Path("/sys/kernel/mm/ksm")
_OWN = Path("/proc/self/ksm_stat")
_OTHERS = 0.01
"""The share of pages that may be other processes': QEMU gives its guests' ROMs to KSM."""
_PAGES_AT_ONCE = 100_000
_SCANS = 3
"""A first scan takes checksums, a second merges, a third finds what has come to rest since."""
_SECONDS = 180


def find() -> Found:
    """KSM, when nobody else uses it: it has one set of settings and counters for all."""
    if not (_FOLDER / "run").exists():
        return absent(NAME, "this kernel has no KSM")
    if not os.access(_FOLDER / "run", os.W_OK) or os.geteuid() != 0:
        return absent(NAME, "its settings need root")
    with host.alone(_FOLDER / "run"):
        in_use = _figure("run") != 0 or _figure("pages_shared") != 0
    if in_use:
        return absent(NAME, "it is at work on this host, for others")
    if "ksm_zero_pages" not in (own_figures(_OWN.read_text()) if _OWN.exists() else ()):
        return absent(NAME, "this kernel does not tell what it merged of which process")
    return Found(
        [Peer(NAME, "ksm", _VERSION, measure, {"kernel": host.kernel()}, read="nothing")], []
    )


def measure(images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """Hold the images in mergeable memory until whole scans find nothing more to merge."""
    logical = host.total_bytes(images)
    if logical > LIMIT:
        raise EnvironmentProblem(
            f"it holds all images of a corpus in memory, here {format_size(logical)};"
            f" at most {format_size(LIMIT)} are tried"
        )
    with (
        host.undone_when_interrupted(),
        host.alone(_FOLDER / "run"),
        _at_work() as start,
        mergeable(images),
    ):
        began = time.monotonic()
        start()
        _wait_for_scans(began)
        seconds = time.monotonic() - began
        found = {
            name: _figure(name)
            for name in ("pages_shared", "pages_sharing", "pages_unshared", "ksm_zero_pages")
        }
        profit = _figure("general_profit")
        own = own_figures(_OWN.read_text())
    others = {
        "others_merged": found["pages_shared"] + found["pages_sharing"] - own["ksm_merging_pages"],
        "others_zero": found["ksm_zero_pages"] - own["ksm_zero_pages"],
    }
    if others["others_merged"] * PAGE_SIZE > _OTHERS * logical:
        raise EnvironmentProblem("other processes have given memory to KSM as well")
    # the profit is what was merged away, less KSM's own data about every page it looks at
    stored = logical - profit + others["others_zero"] * PAGE_SIZE
    return {"stored": stored, "seconds": seconds, "profit": profit, **found, **others}


def own_figures(text: str) -> dict[str, int]:
    """The figures of /proc/self/ksm_stat."""
    lines = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[1].isdecimal()}


@contextmanager
def mergeable(images: Sequence[Image]) -> Iterator[None]:
    """Hold images in anonymous memory that KSM may merge."""
    memory = mmap.mmap(-1, host.total_bytes(images), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.madvise(mmap.MADV_MERGEABLE)
        place = 0
        for chunk in host.chunks(images):
            memory[place : place + len(chunk)] = chunk
            place += len(chunk)
        yield
    finally:
        memory.close()


def _figure(name: str) -> int:
    return int((_FOLDER / name).read_text())


@contextmanager
def _at_work() -> Iterator[Any]:
    """Set KSM up, yield the function that starts it, and put everything back."""
    with ExitStack() as stack:
        # settings that a kernel lacks came later than the behaviour that they switch off
        for name, value in (("advisor_mode", "none"), ("smart_scan", "0")):
            if (_FOLDER / name).exists():
                stack.enter_context(host.setting(_FOLDER / name, value))
        stack.enter_context(host.setting(_FOLDER / "use_zero_pages", "1"))
        stack.enter_context(host.setting(_FOLDER / "pages_to_scan", str(_PAGES_AT_ONCE)))
        stack.callback((_FOLDER / "run").write_text, "0")
        stack.callback((_FOLDER / "run").write_text, "2")  # forget all pages
        yield lambda: (_FOLDER / "run").write_text("1")


def _wait_for_scans(began: float) -> None:
    """Return after three scans at least, of which the last has merged nothing."""
    first = _figure("full_scans")
    merged = -1
    seen = first
    while True:
        if time.monotonic() > began + _SECONDS:
            raise EnvironmentProblem(f"KSM did not come to an end within {_SECONDS} s")
        time.sleep(0.05)
        scans = _figure("full_scans")
        if scans == seen:
            continue
        seen = scans
        now = _figure("pages_sharing") + _figure("ksm_zero_pages")
        if scans - first >= _SCANS and now == merged:
            return
        merged = now
