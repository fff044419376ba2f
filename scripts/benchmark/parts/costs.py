"""What single calls cost on a mount, by how much is in it: nothing should wait for what is large.

Plain system calls on volumes of zeros, of which a page takes two bytes of page table and nothing
else: what grows with their size is the cost of the index alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmark import mounts
from benchmark.generator import Generator
from benchmark.host import memory_available
from benchmark.result import Part
from benchmark.work import BenchmarkError, Work, run_tool

MIB = 1 << 20
GIB = 1 << 30
PAGE = 4096
_CALLS = 100
"""Of each kind and round; their median counts."""
_INDEX_SHARE = 200
"""A volume of zeros takes less than this part of its size, while it is removed, too."""
_OTHER_PAGES = 1024
"""Of the volume that is read while another one is removed."""
_FEW = 50
_FRONT = (PAGE, 2 * PAGE)
"""The first data and the first hole behind it, once every other page is punched."""
_RELEASE_SECONDS = 10.0
_PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
_IDLE_SECONDS = 5.0
_WINDOW = 0.5
"""Seconds over which the daemon's processor time is looked at while a removal goes on."""
_QUIET_WINDOWS = 4
_BUSY = 0.1
"""Processor time a second, beyond that of answering bystanders, from which on it has work."""
_BETWEEN = 0.0005
"""Seconds that a bystander waits between two calls, so that the daemon's other work shows."""
_REMOVAL_SECONDS = 120.0

_CALL_TABLE = "one call at the front of a volume of zeros"
_FILE_TABLE = "many files"
_REMOVAL_TABLE = "removing a volume of zeros"
_IDLE = "nothing removed"
_GOING = "while it goes"
_LONGEST_READ = "longest read of 4 KiB elsewhere"
_LONGEST_STAT = "longest stat elsewhere"
_GROWTH = "growth of the daemon's anonymous memory"
_PUNCHED = "punch a page"
_SEEK_DATA = "SEEK_DATA behind a hole"
_SEEK_HOLE = "SEEK_HOLE behind a page"
_CLOSED = "close"
_CLOSED_WRITTEN = "close, a page written"


def measure(work: Work) -> Part:
    """Measure everything on one mount, and remove the largest volume last."""
    part = Part("costs")
    if reason := mounts.obstacle():
        part.absent["costs"] = reason
        return part
    sizes = []
    for size in sorted(work.options.cost_bytes):
        if size // _INDEX_SHARE + (256 << 20) > memory_available():
            part.absent[_name(size)] = f"needs {size // _INDEX_SHARE // MIB} MiB of free memory"
        else:
            sizes.append(size)
    if len(sizes) < 2:
        return part
    store = work.folder / "costs-store"
    other = b"".join(Generator(3).batches(_OTHER_PAGES))
    _import(work, store, sizes, other)
    with mounts.Difffs(work.folder / "costs", store) as mount:
        _single_calls(part, work, mount.folder, sizes)
        work.say("  many files")
        _many_files(part, mount, work.options.cost_files)
        work.say(f"  removing {_name(sizes[-1])}")
        _removal(part, mount, sizes[-1], other)
    _compare(part, sizes)
    return part


def _name(size: int) -> str:
    return f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:g} MiB"


def _import(work: Work, store: Path, sizes: list[int], other: bytes) -> None:
    """Make the volumes, each under its size as name: from images that are one hole."""
    image = work.folder / "costs.mem"
    image.write_bytes(other)
    names = {"other": len(other)} | {str(size): size for size in sizes}
    for name, size in names.items():
        work.say(f"  importing {_name(size)}")
        if name != "other":
            image.write_bytes(b"")
            os.truncate(image, size)
        run_tool(sys.executable, "-m", "difffs", "import", store, image, name)
    image.unlink()


# --- single calls -------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _punch(file: int, offset: int) -> None:
    if _libc.fallocate(file, _PUNCH, offset, PAGE) != 0:
        raise OSError(ctypes.get_errno(), "a page cannot be punched")


def _microseconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begin) / 1e3


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags)
    try:
        yield file
    finally:
        os.close(file)


def _one_round(path: Path) -> dict[str, float]:
    """Return the median of each call. The front becomes page, hole, page, hole."""
    found: dict[str, list[float]] = {}

    def note(subject: str, call: Callable[[], object]) -> None:
        found.setdefault(subject, []).append(_microseconds(call))

    with _opened(path, os.O_RDWR) as file:
        for number in range(_CALLS):
            # written first, so that there is a page to be punched in every round
            os.pwrite(file, b"\1" * PAGE, 2 * number * PAGE)
            os.fdatasync(file)
            note(_PUNCHED, partial(_punch, file, 2 * number * PAGE))
    with _opened(path, os.O_RDONLY) as file:
        # what a writer has open counts as data, and the daemon hears of a close behind it
        deadline = time.monotonic() + _RELEASE_SECONDS
        while (os.lseek(file, 0, os.SEEK_DATA), os.lseek(file, PAGE, os.SEEK_HOLE)) != _FRONT:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{path}: holes are not where pages were punched")
            time.sleep(0.01)
        for _ in range(_CALLS):
            note(_SEEK_DATA, partial(os.lseek, file, 0, os.SEEK_DATA))
            note(_SEEK_HOLE, partial(os.lseek, file, PAGE, os.SEEK_HOLE))
    for _ in range(_CALLS):
        opened = os.open(path, os.O_RDONLY)
        note(_CLOSED, partial(os.close, opened))
    for _ in range(_CALLS):
        opened = os.open(path, os.O_RDWR)
        os.pwrite(opened, b"\1" * PAGE, PAGE)
        note(_CLOSED_WRITTEN, partial(os.close, opened))
    return {subject: statistics.median(values) for subject, values in found.items()}


def _single_calls(part: Part, work: Work, folder: Path, sizes: list[int]) -> None:
    results = work.rounds({_name(size): partial(_one_round, folder / str(size)) for size in sizes})
    for subject in (_PUNCHED, _SEEK_DATA, _SEEK_HOLE, _CLOSED, _CLOSED_WRITTEN):
        for name, rounds in results.items():
            part.add(_CALL_TABLE, subject, name, "us", [one[subject] for one in rounds])


# --- many files ---------------------------------------------------------------------------------


def _many_files(part: Part, mount: mounts.Difffs, count: int) -> None:
    """Create files; open a quarter of them and close them again."""
    folder = mount.folder / "files"
    folder.mkdir()
    paths = [folder / str(number) for number in range(count)]
    begin = time.perf_counter()
    for path in paths:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    part.add(_FILE_TABLE, f"create {count:,} files", "total", "s", time.perf_counter() - begin)
    mount.settle()
    many = count // 4
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < many + 256:
        part.absent[f"{many:,} open files"] = f"no more than {hard} may be open (ulimit -Hn)"
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many + 256), hard))
    try:
        for number in sorted({min(_FEW, many), many}):
            opened = [os.open(path, os.O_RDWR) for path in paths[:number]]
            begin = time.perf_counter()
            for file in opened:
                os.close(file)
            os.statvfs(folder)  # answered behind the last release
            seconds = time.perf_counter() - begin
            part.add(_FILE_TABLE, f"close {number:,} open files", "total", "s", seconds)
            part.add(
                _FILE_TABLE, f"close {number:,} open files", "each", "us", seconds / number * 1e6
            )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- a removal, seen from other volumes ---------------------------------------------------------


class _Bystanders:
    """Threads that read and look up on other volumes, and one that watches the daemon's memory."""

    def __init__(self, mount: mounts.Difffs, other: bytes) -> None:
        self._mount = mount
        self._other = other
        self._ended = threading.Event()
        self._switch_interval = sys.getswitchinterval()
        self._problem: BaseException | None = None
        self.longest_read = 0.0
        self.longest_stat = 0.0
        self.pages_verified = 0
        self.anonymous = 0
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,))
            for work in (self._read, self._stat, self._watch)
        ]

    def __enter__(self) -> _Bystanders:
        # else a thread back from a system call may wait 5 ms for its turn
        sys.setswitchinterval(1e-4)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        sys.setswitchinterval(self._switch_interval)
        if self._problem is not None:
            raise self._problem

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as problem:
            self._problem = problem

    def _read(self) -> None:
        with (
            _opened(self._mount.folder / "other", os.O_RDONLY | os.O_DIRECT) as file,
            mmap.mmap(-1, PAGE) as page,
        ):
            number = 0
            while not self._ended.wait(_BETWEEN):
                number = (number + 389) % _OTHER_PAGES
                at = number * PAGE
                took = _microseconds(partial(os.preadv, file, [page], at))
                self.longest_read = max(self.longest_read, took)
                if page[:] != self._other[at : at + PAGE]:
                    raise BenchmarkError(f"page {number} was read wrong while another volume went")
                self.pages_verified += 1

    def _stat(self) -> None:
        """Ask for names that are not there: what the kernel knows it does not ask for."""

        number = time.monotonic_ns()
        while not self._ended.wait(_BETWEEN):
            number += 1
            look = partial(os.path.lexists, self._mount.folder / f"absent-{number}")
            self.longest_stat = max(self.longest_stat, _microseconds(look))

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.anonymous = max(self.anonymous, anonymous_memory(self._mount.process.pid))


def anonymous_memory(process: int) -> int:
    """Return the resident bytes of a process that no file is behind."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _until_done(mount: mounts.Difffs, idle: float) -> float:
    """Return the seconds until the daemon works no more than ``idle``, in processor time a second.

    What else could be waited for? A commit does not wait for all of it, and the index keeps the
    room that it has freed for what comes next.
    """
    begin = done = time.monotonic()
    quiet = 0
    before = mount.cpu_seconds()
    while quiet < _QUIET_WINDOWS and time.monotonic() < begin + _REMOVAL_SECONDS:
        time.sleep(_WINDOW)
        now = mount.cpu_seconds()
        busy = (now - before) / _WINDOW > idle + _BUSY
        quiet = 0 if busy else quiet + 1
        if busy:
            done = time.monotonic()
        before = now
    return done - begin


def _removal(part: Part, mount: mounts.Difffs, size: int, other: bytes) -> None:
    """Remove a volume; compare with the same time in which nothing is removed."""
    mount.settle()
    held = anonymous_memory(mount.process.pid)
    with _Bystanders(mount, other) as idle:
        before = mount.cpu_seconds()
        time.sleep(_IDLE_SECONDS)
        working = (mount.cpu_seconds() - before) / _IDLE_SECONDS
    with _Bystanders(mount, other) as beside:
        unlinked = _microseconds((mount.folder / str(size)).unlink)
        took = unlinked / 1e6 + _until_done(mount, working)
    for name, seen in ((_IDLE, idle), (_GOING, beside)):
        part.add(_REMOVAL_TABLE, _LONGEST_READ, name, "ms", seen.longest_read / 1e3)
        part.add(_REMOVAL_TABLE, _LONGEST_STAT, name, "ms", seen.longest_stat / 1e3)
        grown = max(0, seen.anonymous - held) / MIB
        part.add(_REMOVAL_TABLE, _GROWTH, name, "MiB", grown)
        part.pages_verified += seen.pages_verified
    part.add(_REMOVAL_TABLE, "unlink itself", _GOING, "ms", unlinked / 1e3)
    part.add(_REMOVAL_TABLE, "until the daemon has done it", _GOING, "s", took)


def _compare(part: Part, sizes: list[int]) -> None:
    small, large = _name(sizes[0]), _name(sizes[-1])
    for subject in (_PUNCHED, _SEEK_DATA, _SEEK_HOLE, _CLOSED, _CLOSED_WRITTEN):
        part.compare(
            f"{subject}: {large} / {small}",
            part.median(subject, large),
            part.median(subject, small),
            2,
            at_most=True,
            target=7,
        )
    many = [figure for figure in part.figures if figure.contender == "each"]
    if len(many) == 2:
        part.compare(
            f"{many[1].subject}, each / {many[0].subject}, each",
            many[1].median,
            many[0].median,
            2,
            at_most=True,
            target=7,
        )
    wait = max(
        (part.median(subject, _GOING) or 0.0) - (part.median(subject, _IDLE) or 0.0)
        for subject in (_LONGEST_READ, _LONGEST_STAT)
    )
    part.compare(
        f"removing {large}: longest wait elsewhere in ms, beyond that of an idle mount",
        max(wait, 0.0),
        1.0,
        10,
        at_most=True,
        target=7,
    )
    part.compare(
        f"removing {large}: growth of anonymous memory in MiB",
        part.median(_GROWTH, _GOING),
        1.0,
        16,
        at_most=True,
        target=7,
    )
