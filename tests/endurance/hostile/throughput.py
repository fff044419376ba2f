"""What a volume loses to a hostile one beside it on the same mount.

A victim writes, or reads, as fast as it can: alone, beside a volume that does the same, and beside
one that does what may be dear for others. Of two volumes that are busy each has half of the cores,
so half is what a victim may lose.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from statistics import median

from difffs.linux import punch_hole
from tests.endurance.hostile.contents import KINDS, PAGE
from tests.pages import guest_memory

LEAST = 0.5
"""Of what a victim does alone."""
_RUN = 256
"""Pages of a write."""
_VICTIM_PAGES = 16 << 8
"""16 MiB."""
_SYNCHRONISED = 1024
"""Pages after which a victim that writes synchronises."""
_BEFORE_SECONDS = 0.5
"""By which the other volume's work begins before it is measured."""

Work = Callable[[int, "Clock"], int]
"""Works on an open file until the clock says so; how many pages that was."""


class Clock:
    """Until when there is work."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def runs(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self._end


@dataclass(frozen=True, slots=True)
class Share:
    """What was left to a victim."""

    victim: str
    beside: str
    alone: float
    """Pages a second, the median of all rounds."""
    together: float
    share: float
    """The median of the rounds' own."""


def write_ordinary(file: int, clock: Clock) -> int:
    """Pages as guests have them, each time others, synchronised now and then."""
    pages = bytearray(guest_memory(1, _RUN))
    done = 0
    while clock.runs():
        for page in range(0, len(pages), PAGE):
            struct.pack_into("<Q", pages, page, done * PAGE + page)
        os.pwrite(file, pages, done % _VICTIM_PAGES * PAGE)
        done += _RUN
        if done % _SYNCHRONISED == 0:
            os.fsync(file)
    return done


def read_at_random(file: int, clock: Clock) -> int:
    """Single pages of a volume that holds something, past the kernel's cache."""
    random, done = Random(1), 0
    pages = os.fstat(file).st_size // PAGE
    with mmap.mmap(-1, PAGE) as page:
        while clock.runs():
            for _ in range(16):
                os.preadv(file, [page], random.randrange(pages) * PAGE)
            done += 16
    return done


def read_patches(file: int, clock: Clock) -> int:
    """Of a volume in which all pages but bases are patches."""
    return read_at_random(file, clock)


def write_hostile(kind: str, file: int, clock: Clock) -> int:
    """Two sets of a kind, in turns over each other, so that each time all is new."""
    done = 0
    while clock.runs():
        for content in _two_sets(kind):
            for at in range(0, len(content), _RUN * PAGE):
                os.pwrite(file, content[at : at + _RUN * PAGE], at)
                done += _RUN
                if not clock.runs():
                    return done
    return done


@cache
def _two_sets(kind: str) -> tuple[bytes, bytes]:
    make, count = KINDS[kind]
    one, two = (b"".join(make(seed, min(count, 3000))) for seed in (1, 2))
    return one, two


def synchronise_each(file: int, clock: Clock) -> int:
    """A page, an fsync, a page, ..."""
    random, done = Random(2), 0
    while clock.runs():
        os.pwrite(file, random.randbytes(PAGE), done % 512 * PAGE)
        os.fsync(file)
        done += 1
    return done


def discard_again(file: int, clock: Clock) -> int:
    """What was written goes at once, page by page."""
    noise, done = Random(3).randbytes(_RUN * PAGE), 0
    while clock.runs():
        os.pwrite(file, noise, 0)
        for page in range(0, _RUN, 2):
            punch_hole(file, page * PAGE, PAGE)
        punch_hole(file, 0, _RUN * PAGE)
        done += _RUN
    return done


VICTIMS: dict[str, Work] = {"writes": write_ordinary, "reads": read_at_random}
OTHERS: dict[str, Work] = {
    "writes as guests do": write_ordinary,
    "reads": read_at_random,
    **{f"writes {kind}": partial(write_hostile, kind) for kind in KINDS},
    "fsync of each page": synchronise_each,
    "discards": discard_again,
    "reads patches": read_patches,
}


@contextmanager
def _working(path: Path, work: Work, seconds: float) -> Iterator[int]:
    """A process that works on a volume; the reading end of its pipe, where the rate comes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            file = os.open(path, os.O_RDWR | os.O_DIRECT)
            began = time.monotonic()
            done = work(file, Clock(seconds))
            os.write(writer, struct.pack("<d", done / (time.monotonic() - began)))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)
        os.waitpid(child, 0)


def _rate(path: Path, work: Work, seconds: float) -> float:
    with _working(path, work, seconds) as told:
        answer = os.read(told, 8)
        assert len(answer) == 8, f"{path}: the work has failed"
        rate: float = struct.unpack("<d", answer)[0]
        return rate


def _make(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def measure(root: Path, victim: str, other: str, seconds: float, rounds: int) -> Share:
    """In turns alone and beside the other, on two volumes of a mount."""
    mine, its = root / "victim", root / "other"
    work = VICTIMS[victim]
    beside = OTHERS[other]
    if isinstance(beside, partial):
        _two_sets(*beside.args)  # made before the time of the other, a fork of this process, counts
    alone, together = [], []
    for number in range(rounds):
        _make(mine, guest_memory(7, _VICTIM_PAGES))
        patches = b"".join(KINDS["all-bases"][0](1, 4000))
        _make(its, patches if beside is read_patches else guest_memory(8, 4000))
        for is_alone in (True, False) if number % 2 else (False, True):
            if is_alone:
                alone.append(_rate(mine, work, seconds))
                continue
            with _working(its, beside, seconds + 2 * _BEFORE_SECONDS):
                time.sleep(_BEFORE_SECONDS)
                together.append(_rate(mine, work, seconds))
        its.unlink()
        mine.unlink()
    shares = [after / before for before, after in zip(alone, together, strict=True)]
    return Share(victim, other, median(alone), median(together), median(shares))
