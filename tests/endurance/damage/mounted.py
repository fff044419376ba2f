"""Damage to the files of a store that is mounted: what is read through the mount is right or an
error, and the daemon neither dies by a signal nor hangs."""

import contextlib
import json
import mmap
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import TextIO

from difffs.page import PAGE_SIZE
from tests.endurance.daemons import is_held_elsewhere
from tests.endurance.damage.aged_store import AgedStore
from tests.endurance.damage.at_rest import Wrong
from tests.endurance.damage.damages import damage
from tests.pages import guest_memory

_DIFFFS = (sys.executable, "-m", "difffs")
_RUN = 64
"""Pages that are read at once, while nothing fails."""


def judge_mounted(store: Path, aged: AgedStore, random: Random, told: TextIO) -> str:
    """What came of it: `right`, `found`, or `unread` where the mount had to be refused."""
    mount = store.with_name("mount")
    mount.mkdir()
    log = store.with_name("log")  # no pipe: the daemon would wait for whoever reads it
    with log.open("w") as out:
        daemon = subprocess.Popen(
            [*_DIFFFS, "mount", "--foreground", store, mount], stdout=out, stderr=out
        )
    try:
        while not os.path.ismount(mount):
            if daemon.poll() is not None:
                raise Wrong(f"a sound store cannot be mounted: {log.read_text()}")
            time.sleep(0.01)
        before = random.random() < 0.5
        errors = _use(mount, aged.contents, random) if before else 0
        told.write(f"mounted, {'used, ' if before else ''}then {damage(random, store, aged)}\n")
        told.flush()
        if before and errors:
            raise Wrong("errors without damage")
        errors = _use(mount, aged.contents, random)
        _unmount(mount)
        held = _ends_late(daemon, mount)
        said = log.read_text()
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()
        if os.path.ismount(mount):
            subprocess.run(["umount", "-l", mount], check=False)
    if daemon.returncode < 0 and not held:
        raise Wrong(f"the daemon ended by signal {-daemon.returncode}: {said}")
    if "Traceback" in said:
        raise Wrong(f"an error of the daemon's own: {said}")
    found = not _is_clean(store)
    return "found" if errors or found else "right"


def _ends_late(daemon: "subprocess.Popen[bytes]", mount: Path) -> bool:
    """Wait for the daemon; whether it had to be killed, because another mount namespace has got a
    copy of its mount."""
    try:
        daemon.wait(timeout=30)
    except subprocess.TimeoutExpired:
        if not is_held_elsewhere(mount):
            raise
        daemon.kill()
        daemon.wait()
        return True
    return False


def _unmount(mount: Path) -> None:
    """Unmount; what cannot be written any more is given up when the mount refuses to go."""
    words: list[str | Path] = [*_DIFFFS, "umount", mount]
    refused = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if refused.returncode == 12 and "umount --force" in refused.stderr:
        refused = subprocess.run(
            [*words, "--force"], capture_output=True, text=True, check=False, timeout=60
        )
    if os.path.ismount(mount):
        raise Wrong(f"the mount stays: {refused.stderr}")


def _is_clean(store: Path) -> bool:
    done = subprocess.run(
        [*_DIFFFS, "check", "--json", store], capture_output=True, text=True, check=False
    )
    if done.returncode not in range(16):
        raise Wrong(f"check ended with {done.returncode}: {done.stderr}")
    return bool(re.match(r"\{", done.stdout)) and bool(json.loads(done.stdout)["clean"])


def _use(mount: Path, contents: dict[str, bytes], random: Random) -> int:
    """Reads everything past the kernel's cache, and writes some of it anew with what it holds; how
    many errors there were."""
    errors = 0
    for path, expected in contents.items():
        try:
            file = os.open(f"{mount}{path}", os.O_RDWR | os.O_DIRECT)
        except OSError:
            errors += 1
            continue
        try:
            pages = len(expected) // PAGE_SIZE
            errors += sum(_read(file, path, expected, at, _RUN) for at in range(0, pages, _RUN))
            errors += _write(file, expected, random)
        finally:
            with contextlib.suppress(OSError):  # the end of a file may tell of a commit that failed
                os.close(file)
    with contextlib.suppress(OSError):
        os.listdir(mount / "guests")
    return errors


def _read(file: int, path: str, expected: bytes, first: int, count: int) -> int:
    count = min(count, len(expected) // PAGE_SIZE - first)
    with mmap.mmap(-1, count * PAGE_SIZE) as out:
        try:
            got = os.preadv(file, [out], first * PAGE_SIZE)
        except OSError:
            if count == 1:
                return 1
            half = count // 2
            return _read(file, path, expected, first, half) + _read(
                file, path, expected, first + half, count - half
            )
        if got != count * PAGE_SIZE:
            raise Wrong(f"{path} ends after page {first + got // PAGE_SIZE}")
        for page in range(first, first + count):
            at = (page - first) * PAGE_SIZE
            if out[at : at + PAGE_SIZE] != expected[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]:
                raise Wrong(f"page {page} of {path} is another")
    return 0


def _write(file: int, expected: bytes, random: Random) -> int:
    """Writes other bytes and then the old ones, so that what must be there stays known."""
    pages = random.randrange(1, 12)
    first = random.randrange(len(expected) // PAGE_SIZE - pages)
    old = expected[first * PAGE_SIZE : (first + pages) * PAGE_SIZE]
    errors = 0
    with mmap.mmap(-1, len(old)) as data:
        for content in (guest_memory(random.randrange(20), pages), old):
            data[:] = content
            try:
                os.pwritev(file, [data], first * PAGE_SIZE)
                os.fsync(file)
            except OSError:
                errors += 1
    return errors
