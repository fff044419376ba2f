"""What refines while a soak overwrites: pass after pass, and at its end the comparison with a store
that has the same content, imported and refined once.
"""

import json
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from difffs.mount.live import mount_at
from tests.integration.harness import DIFFFS, Mounted

MOST_BEHIND = 0.10
"""By which a store that was overwritten and refined for long may be larger than a fresh one."""
_BETWEEN_SECONDS = 5.0
_SECONDS = 3600.0
"""By which a command has ended."""


@dataclass(slots=True)
class Refined:
    """What passes have done, and what came of it."""

    tier: str
    passes: int = 0
    """That came to an end of their own."""
    members: int = 0
    """Pages that were packed, those that were packed again counted again."""
    bytes: dict[str, int] = field(default_factory=dict)
    """Of the store at the end, after a last pass, as `stats` tells them."""
    fresh: dict[str, int] = field(default_factory=dict)
    """Of a new store with the same volumes, refined once."""

    def fault(self) -> str | None:
        """Why it is not good enough; None also as long as nothing was compared."""
        stored, fresh = self.bytes.get("stored", 0), self.fresh.get("stored", 0)
        if stored > fresh * (1 + MOST_BEHIND):
            return f"{stored:,} bytes are stored, in a fresh store {fresh:,}"
        return None

    def text(self) -> str:
        """For people."""
        told = [
            f"  {self.passes} passes of {self.tier} packed {self.members:,} pages,"
            " those that were packed again counted again"
        ]
        told += [
            f"  at the end {self.bytes[kind]:,} bytes of {kind}, fresh {fresh:,}"
            f" ({self.bytes[kind] / max(1, fresh) - 1:+.1%})"
            for kind, fresh in self.fresh.items()
            if kind != "logical"
        ]
        return "\n".join(told)


def _run(*words: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        [*DIFFFS, *map(str, words), "--json"], capture_output=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stderr.decode()}"
    report: dict[str, Any] = json.loads(done.stdout)
    return report


class Passes:
    """Passes on a mount, one after the other, until they are told to end."""

    def __init__(self, root: Path, refined: Refined) -> None:
        """Begins at once."""
        self._root = root
        self._refined = refined
        self._stop = threading.Event()
        self.fault: str | None = None
        self._thread = threading.Thread(target=self._repeat)
        self._thread.start()

    def _repeat(self) -> None:
        while not self._stop.is_set():
            try:
                done = _run("refine", self._root, "--tier", self._refined.tier)
            except AssertionError as error:
                if mount_at(self._root) is not None and not self._stop.is_set():
                    self.fault = str(error)
                return
            self._refined.passes += done["finished"]
            self._refined.members += done["members"]
            self._stop.wait(_BETWEEN_SECONDS)

    def end(self) -> None:
        """Waits for the pass that runs; of a daemon that was killed it has ended."""
        self._stop.set()
        self._thread.join()


def compare(mounted: Mounted, volumes: list[str], refined: Refined) -> None:
    """A last pass, and the same volumes in a store of their own. Leaves the store unmounted."""
    refined.members += _run("refine", mounted.path, "--tier", refined.tier)["members"]
    mounted.unmount()
    refined.bytes = _run("stats", mounted.store)["bytes"]
    fresh = mounted.folder / "fresh"
    for volume in volumes:
        image = mounted.folder / volume
        for words in (("export", mounted.store, volume, image), ("import", fresh, image)):
            subprocess.run([*DIFFFS, *words], check=True, stdout=subprocess.DEVNULL)
        image.unlink()
    _run("refine", fresh, "--tier", refined.tier)
    refined.fresh = _run("stats", fresh)["bytes"]
