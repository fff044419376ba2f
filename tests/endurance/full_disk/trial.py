"""One trial: a store fills its file system, room is made from inside the mount, and again.

What must hold: errors are ENOSPC and nothing else; every page reads as what was written last, or,
where an fsync has failed, as one of what was written since the one before; once there is room, all
can be written and synchronised again; the store is clean; all of that also when the daemon is
killed while the disk is full.
"""

import contextlib
import errno
import os
import random
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

from difffs.linux import punch_hole
from difffs.mount.live import mount_at
from tests.endurance.full_disk.model import PAGE, Volume, page_bytes
from tests.integration import harness
from tests.integration.harness import Mounted, wait_until
from tests.integration.small_disks import MIB, Disk, small_disk

WAYS = ("remove", "truncate", "punch", "all")
"""How room is made."""
CYCLES = 2
_RUN_PAGES = 256
_FILE_MIB = 12
_REFUSALS = 6
"""Operations refused after which the disk counts as full."""
_FULL = r"no space left for .*nothing is lost"


class Violation(Exception):
    """What was promised does not hold; the text says what."""


@dataclass(slots=True)
class Report:
    """What a trial did."""

    seed: int
    kind: str
    way: str
    writes: int = 0
    synchronised: int = 0
    refused: int = 0
    kills: int = 0
    pages_compared: int = 0
    certain_when_full: int = 0
    """Pages that had to be exactly one thing when the disk was full."""


class Trial:
    """A store on a small disk with its model. Everything follows from the seed."""

    def __init__(self, mounted: Mounted, disk: Disk, report: Report) -> None:
        self._mounted = mounted
        self._disk = disk
        self._random = random.Random(report.seed)
        self.report = report
        self._next_content = 0
        self._volumes: dict[str, Volume] = {}
        self._files: dict[str, int] = {}
        self._made = 0

    # ---- volumes -------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self._mounted.path / name

    def _open(self, name: str, more: int = 0) -> None:
        # every other one past the kernel's cache: its writes are refused at once
        direct = os.O_DIRECT if int(name[1:]) % 2 else 0
        self._files[name] = os.open(self._path(name), os.O_RDWR | direct | more, 0o600)

    def _make(self) -> None:
        """Make one more volume, whose name and size are durable."""
        name = f"v{self._made}"
        self._made += 1
        self._open(name, os.O_CREAT | os.O_EXCL)
        os.ftruncate(self._files[name], _FILE_MIB * MIB)
        self._volumes[name] = Volume(name, _FILE_MIB * MIB // PAGE)
        self._mounted.commit()

    def _close(self, name: str) -> None:
        """Close a volume; the kernel sends what it has, and nobody may hear that it was refused."""
        self._volumes[name].refused()
        with contextlib.suppress(OSError):
            os.close(self._files.pop(name))

    def _refused(self, error: OSError) -> None:
        if error.errno != errno.ENOSPC:
            raise Violation(f"an error that is not ENOSPC: {error}")
        self.report.refused += 1

    # ---- operations ----------------------------------------------------------------------------

    def _write(self, name: str) -> None:
        volume = self._volumes[name]
        count = self._random.randint(1, _RUN_PAGES)
        first = self._random.randrange(volume.pages - count)
        contents = range(self._next_content + 1, self._next_content + 1 + count)
        self._next_content += count
        for page, content in enumerate(contents, first):
            volume.write(page, content)
        data = b"".join(map(page_bytes, contents))
        try:
            done = os.pwrite(self._files[name], data, first * PAGE)
        except OSError as error:
            self._refused(error)
            volume.refused()
        else:
            if done != len(data):
                self.report.refused += 1
                volume.refused()
            self.report.writes += 1

    def _synchronise(self, name: str) -> bool:
        volume = self._volumes[name]
        try:
            os.fsync(self._files[name])
        except OSError as error:
            self._refused(error)
            volume.refused()
            return False
        volume.synchronized()
        self.report.synchronised += 1
        return True

    def _punch(self, name: str, first: int, count: int) -> None:
        volume = self._volumes[name]
        for page in range(first, first + count):
            volume.write(page, 0)
        for _ in range(20):
            try:
                punch_hole(self._files[name], first * PAGE, count * PAGE)
                return
            except OSError as error:
                # The kernel sends what it has of the file first, and tells that it was refused
                # (and dropped) once for each time: so again.
                self._refused(error)
                volume.refused()
        raise Violation(f"{name}: a hole cannot be punched on a full disk")

    def _truncate(self, name: str, pages: int) -> None:
        volume = self._volumes[name]
        os.truncate(self._path(name), pages * PAGE)
        for page in range(pages, volume.pages):
            volume.write(page, 0)
        # growing needs the rest of the last page zeroed and flushed: none here, it is whole
        os.truncate(self._path(name), volume.pages * PAGE)

    def _remove(self, name: str) -> None:
        self._close(name)
        self._path(name).unlink()
        del self._volumes[name]

    # ---- the phases ----------------------------------------------------------------------------

    def _fill(self) -> None:
        before = self.report.refused
        for _ in range(100 * self._disk.mebibytes):
            if self.report.refused >= before + _REFUSALS:
                return
            name = self._random.choice(list(self._volumes))
            if self._random.random() < 0.7:
                self._write(name)
            else:
                self._synchronise(name)
            if self._random.random() < 0.03:
                first = self._random.randrange(self._volumes[name].pages - 64)
                self._punch(name, first, self._random.randint(1, 64))
        raise Violation("the disk was never full")

    def _make_room(self) -> None:
        ways: dict[str, Callable[[str], None]] = {
            "remove": self._remove,
            "truncate": lambda name: self._truncate(name, self._random.randint(0, 64)),
            "punch": lambda name: self._punch(name, 0, self._volumes[name].pages),
        }
        names = list(self._volumes)
        self._random.shuffle(names)
        for number, name in enumerate(names[: max(1, len(names) // 2)]):
            way = self.report.way
            ways[list(ways)[number % 3] if way == "all" else way](name)

    def _expect_usable(self) -> None:
        """Wait until everything can be synchronised, and something new be written."""

        def committed() -> bool:
            try:
                self._mounted.commit()
            except OSError as error:
                self._refused(error)
                return False
            return True

        try:
            wait_until(committed, 60)
            for name in list(self._volumes):
                wait_until(partial(self._synchronise, name), 60)
        except AssertionError:
            raise Violation("still full a minute after room was made") from None
        while len(self._volumes) < self._most():
            self._make()
        name = list(self._volumes)[-1]
        for _ in range(4):
            self._write(name)
        if not self._synchronise(name):
            raise Violation("a MiB cannot be written although room was made")

    def _compare(self) -> None:
        for name, volume in self._volumes.items():
            with self._reading(name) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                for first in range(0, volume.pages, _RUN_PAGES):
                    run = range(first, min(first + _RUN_PAGES, volume.pages))
                    written = [page for page in run if volume.is_written(page)]
                    if not written:
                        continue
                    found = os.pread(file.fileno(), len(run) * PAGE, first * PAGE)
                    for page in written:
                        at = (page - first) * PAGE
                        fault = volume.fault(page, found[at : at + PAGE])
                        if fault is not None:
                            raise Violation(fault)
                    self.report.pages_compared += len(written)

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[FileIO]:
        """Open a volume; closing it sends what others have written, and may tell that it was
        refused."""
        file = FileIO(self._path(name), "r")
        try:
            yield file
        finally:
            try:
                file.close()
            except OSError as error:
                self._refused(error)
                self._volumes[name].refused()

    def _kill(self) -> None:
        self.report.kills += 1
        for name in list(self._files):
            self._close(name)
        self._mounted.kill()
        self._mounted.check()
        self._mounted.mount()
        for name in self._volumes:
            self._open(name)

    def _most(self) -> int:
        """Volumes that hold more than the disk."""
        return self._disk.mebibytes * 2 // _FILE_MIB

    def run(self, cycles: int = CYCLES) -> None:
        """Fill the disk and make room so often.

        Raises Violation, or AssertionError of a command that failed.
        """
        while len(self._volumes) < self._most():
            self._make()
        for _ in range(cycles):
            self._fill()
            self.report.certain_when_full = sum(
                volume.certain() for volume in self._volumes.values()
            )
            self._compare()
            if self._random.random() < 0.5:
                self._kill()
                self._compare()
            self._make_room()
            self._expect_usable()
            self._compare()
        if self._random.random() < 0.5:
            self._kill()
        for name in list(self._files):
            self._close(name)
        self._mounted.remount()
        self._compare()

    def close(self) -> None:
        """Let go of every file."""
        for name in list(self._files):
            self._close(name)


def try_seed(seed: int, kind: str, keep: Path | None = None, cycles: int = CYCLES) -> Report:
    """Run a trial; of one that fails the store is copied to ``keep``.

    Raises Violation; NotHere where no such file system can be made.
    """
    report = Report(seed, kind, WAYS[seed % len(WAYS)])
    with small_disk(kind) as disk:
        mounted = Mounted(disk.beside, disk.path / "store")
        mounted.expected_log = [_FULL]
        trial = Trial(mounted, disk, report)
        try:
            trial.run(cycles)
            mounted.unmount()
            mounted.verify_log()
        except (Violation, AssertionError, OSError, subprocess.SubprocessError) as error:
            trial.close()
            text = f"seed {seed} on {kind}: {type(error).__name__}: {error}"
            course = traceback.format_exc()
            if keep is not None:
                place = keep / f"{kind}-{seed}"
                place.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-a", "--sparse=always", mounted.store, place], check=False)
                (place / "report").write_text(f"{text}\n{report}\n{course}")
                text += f"; its store: {place}"
            raise Violation(text) from error
        finally:
            while mount_at(mounted.path) is not None:
                subprocess.run(harness.unmount_command(mounted.path, lazy=True), check=True)
    return report
