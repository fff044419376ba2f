"""Corpora written to a live mount, watched while they arrive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from difffs.errors import EnvironmentProblem
from difffs.mount.live import read_statistics
from difffs.mount.unmount import unmount
from difffs.mount.write_back import commit
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.peers import host
from difffs.study.recording import Sample, sample

ARRIVAL_PASS_VERSION = 1
INTERVAL_SECONDS = 0.25


def obstacle() -> str | None:
    """Say why nothing can be mounted here, or None."""
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse (modprobe fuse; in a container: pass the device in)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened"
    if os.geteuid() != 0:
        return host.tool_obstacle("fusermount3", "fuse3")
    return None


@contextmanager
def mounted(store: Path, mountpoint: Path, recipe: str = "default") -> Iterator[Path]:
    """A new store, mounted by the command line; unmounted, and the store removed, at the end."""
    mountpoint.mkdir()
    command = [sys.executable, "-m", "difffs", "mount", str(store), str(mountpoint)]
    done = subprocess.run(
        [*command, "--recipe", recipe],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise EnvironmentProblem(done.stderr.strip().removeprefix("difffs: "))
    well = False
    try:
        yield mountpoint
        well = True
    finally:
        unmount(str(mountpoint), force=not well)
        mountpoint.rmdir()
        shutil.rmtree(store)


class Watch:
    """Samples a mount in a thread of its own for the length of a block, and at its end."""

    def __init__(self, mountpoint: Path, interval: float = INTERVAL_SECONDS) -> None:
        """Watch the mount there, a sample each `interval` seconds."""
        self._mountpoint = mountpoint
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began = time.monotonic()
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.sample()
        if len(self.samples) > 2 and self._too_close():
            del self.samples[-2]

    def _too_close(self) -> bool:
        return self.samples[-1].seconds - self.samples[-2].seconds < self._interval / 2

    def sample(self) -> None:
        """Take a sample now."""
        statistics = read_statistics(self._mountpoint)
        self.samples.append(sample(statistics, time.monotonic() - self._began))

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            self.sample()


def arrival_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Write images to volumes of a live mount, one after the other, as fast as it takes them.

    Parameters: `recipe` (a name). The result has `samples`, and `images` with the seconds at which
    each was in. Written past the page cache: what is written arrives at once.
    """
    arrived = []
    with (
        host.undone_when_interrupted(),
        mounted(folder / "store", folder / "mount", parameters["recipe"]) as mountpoint,
    ):
        watch = Watch(mountpoint)
        began = time.monotonic()
        with watch:
            for number, image in enumerate(images):
                _write(image, mountpoint / f"{number}.mem")
                arrived.append({"name": image.name, "seconds": time.monotonic() - began})
            commit(mountpoint)
        seconds = time.monotonic() - began
    return {
        "samples": [asdict(one) for one in watch.samples],
        "images": arrived,
        "seconds": seconds,
    }


def _write(image: Image, volume: Path) -> None:
    descriptor = os.open(volume, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
    try:
        for chunk in host.chunks([image]):
            if os.write(descriptor, chunk) != len(chunk):
                raise EnvironmentProblem("the mount took only part of an image")
    finally:
        os.close(descriptor)
