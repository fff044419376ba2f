"""A thread that writes, discards, synchronises and reads one volume of a mount until the mount is
gone or it is told to end, and knows what each page may be."""

import os
import threading
import time
from functools import lru_cache
from pathlib import Path
from random import Random

from difffs.linux import punch_hole
from tests.endurance.clients import GONE
from tests.endurance.contents import page_of
from tests.endurance.full_disk.model import PAGE, Volume

_RUN = 128
"""Pages of an operation at most."""
_HOT_SHARE = 0.5
"""Of the writes, those that go to the hot tenth of a volume."""


@lru_cache(maxsize=1 << 14)
def page_bytes(content: int) -> bytes:
    """Pages of all routes: some the same, most alike, some noise."""
    return page_of(Random(content), 0, 0, content)


class Client:
    """One volume's; everything it does follows from its random source and how long it lives."""

    def __init__(self, name: str, pages: int, random: Random, pages_a_second: float) -> None:
        self.volume = Volume(name, pages, page_bytes)
        self._random = random
        self._pages_a_second = pages_a_second
        self._content = 0
        self.faults: list[str] = []
        """What was read and must not be there, and errors that are none of a crash's."""
        self.written = self.discarded = self.synchronised = self.compared = 0
        """Pages, pages, fsyncs, pages."""

    def work(self, root: Path, stop: threading.Event, *, unpaced_seconds: float = 0) -> None:
        """Until told to end, or the mount is gone; at first as fast as it goes. Half of the volumes
        are written past the kernel's cache."""
        direct = os.O_DIRECT if int(self.volume.name[1:]) % 2 else 0
        directory = os.open(root, os.O_RDONLY)
        try:
            file = os.open(root / self.volume.name, os.O_RDWR | os.O_CREAT | direct, 0o600)
            try:
                os.ftruncate(file, self.volume.pages * PAGE)
                began, done = time.monotonic() + unpaced_seconds, 0
                while not stop.is_set() and not self.faults:
                    pages = self._operation(file)
                    if time.monotonic() < began:
                        continue
                    done += pages
                    stop.wait(max(0.0, began + done / self._pages_a_second - time.monotonic()))
            finally:
                os.close(file)
        except OSError as error:
            if error.errno not in GONE and not _is_gone(directory):
                self.faults.append(f"{self.volume.name}: {error}")
        finally:
            os.close(directory)

    def _operation(self, file: int) -> int:
        """One; how many pages it was about."""
        kind = self._random.random()
        if kind < 0.10:
            os.fsync(file)
            self.volume.synchronized()
            self.synchronised += 1
            return 1
        count = min(self._random.choice((1, 1, 2, 8, 32, _RUN)), self.volume.pages)
        span = self.volume.pages - count + 1
        if kind < 0.25:
            return self._discard(file, self._random.randrange(span), count)
        if kind < 0.35:
            return self._compare(file, self._random.randrange(span), count)
        if self._random.random() < _HOT_SHARE:
            span = max(1, span // 10)
        return self._write(file, self._random.randrange(span), count)

    def _write(self, file: int, first: int, count: int) -> int:
        contents = range(self._content + 1, self._content + 1 + count)
        self._content += count
        data = b"".join(map(page_bytes, contents))
        for page, content in enumerate(contents, first):
            self.volume.write(page, content)
        if os.pwrite(file, data, first * PAGE) != len(data):
            self.faults.append(f"{self.volume.name}: a write was cut short")
        self.written += count
        return count

    def _discard(self, file: int, first: int, count: int) -> int:
        for page in range(first, first + count):
            self.volume.write(page, 0)
        punch_hole(file, first * PAGE, count * PAGE)
        self.discarded += count
        return count

    def _compare(self, file: int, first: int, count: int) -> int:
        """While the daemon lives, a page is what was written last and nothing else."""
        os.posix_fadvise(file, first * PAGE, count * PAGE, os.POSIX_FADV_DONTNEED)
        data = b""
        while len(data) < count * PAGE:  # one that meets an error in the middle is short
            piece = os.pread(file, count * PAGE - len(data), first * PAGE + len(data))
            if not piece:
                self.faults.append(f"{self.volume.name} ends in page {first + len(data) // PAGE}")
                return count
            data += piece
        for page in range(first, first + count):
            fault = self.volume.not_last(page, data[(page - first) * PAGE :][:PAGE])
            if fault is not None:
                self.faults.append(fault)
                break
        self.compared += count
        return count

    def look(self, root: Path) -> None:
        """After a crash, or at the end: each page is what may be there, and that stays."""
        path = root / self.volume.name
        data = path.read_bytes() if path.exists() else b""
        for page in range(self.volume.pages):
            found = data[page * PAGE : (page + 1) * PAGE].ljust(PAGE, b"\0")
            if (fault := self.volume.found(page, found)) is not None:
                self.faults.append(fault)
        self.volume.refused()
        self.compared += self.volume.pages


def _is_gone(directory: int) -> bool:
    """Whether the daemon is dead: calls that were under way then may be answered with EIO."""
    try:
        os.listdir(directory)
    except OSError as error:
        return error.errno in GONE
    return False
