"""Runs guests side by side and keeps their images."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from trial.guest import GuestError

from collection.disks import Disk, DiskError, build
from collection.guests import CollectedGuest
from collection.manifest import ImageRecord, Manifest, read_image
from collection.plan import Member, systems

BUILD_FOLDER = ".build"
_SHARED_MEMORY = Path("/dev/shm")


class Halted(Exception):
    """The collection is being ended; guests stop where they are."""


@functools.cache
def qemu_version() -> str:
    """Return what QEMU says about itself."""
    done = subprocess.run(
        ["qemu-system-x86_64", "--version"], check=False, capture_output=True, text=True
    )
    return (done.stdout.splitlines() or ["unknown"])[0].removeprefix("QEMU emulator version ")


class Stopwatch:
    """Counts the seconds that a guest runs.

    It wants to be asked some times a second: while this process stood still, as when it was
    stopped, its guests most likely did too, so such gaps do not count.
    """

    GAP_SECONDS = 2.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count."""
        self.seconds = 0.0
        self._clock = clock
        self._last = clock()

    def tick(self) -> None:
        """Count what has passed since the last call."""
        last, self._last = self._last, self._clock()
        if self._last - last < self.GAP_SECONDS:
            self.seconds += self._last - last

    def skip(self) -> None:
        """Leave out what has passed since the last call."""
        self._last = self._clock()


class Collection:
    """One run: builds the disks that are missing, then collects from one guest after another."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        accelerator: str,
        mirror: str,
        say: Callable[[str], None],
    ) -> None:
        """Collect into ``folder`` with the accelerator ``kvm`` or ``tcg``."""
        self._folder = folder
        self._manifest = manifest
        self._accelerator = accelerator
        self._mirror = mirror
        self._say = say
        self._halt = threading.Event()

    def run(self, members: Sequence[Member], jobs: int) -> dict[str, str]:
        """Collect the images of all ``members``, ``jobs`` guests at once; return what failed.

        The result has a line for each disk or guest that failed, by its name. An interrupt ends
        all guests and is passed on.
        """
        failures: dict[str, str] = {}
        build_folder = self._folder / BUILD_FOLDER
        with ThreadPoolExecutor(jobs) as pool:
            try:
                # disks come first in the pool's queue, so a guest never waits for one behind it
                disks: dict[str, Future[Disk]] = {
                    system.name: pool.submit(
                        build, system, build_folder, self._mirror, self._say, self._watch
                    )
                    for system in systems(members)
                }
                guests = {
                    pool.submit(self._collect, member, disks[member.system_name]): member
                    for member in members
                }
                for done, future in enumerate(as_completed(guests), 1):
                    member = guests[future]
                    try:
                        future.result()
                    except (GuestError, DiskError, OSError, subprocess.SubprocessError) as error:
                        failures[f"{member.corpus}/{member.name}"] = str(error)
                        self._say(f"{member.corpus}/{member.name} failed: {error}")
                    self._say(f"{done} of {len(guests)} guests done")
            except BaseException:
                self._halt.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return failures

    def _watch(self) -> None:
        if self._halt.is_set():
            raise Halted

    def _collect(self, member: Member, disk_to_be: Future[Disk]) -> None:
        disk = disk_to_be.result()
        self._watch()
        label = f"{member.corpus}/{member.name}"
        self._manifest.remove(member.files)
        with _memory_folder(self._folder / BUILD_FOLDER, member.mebibytes) as memory_folder:
            consoles = self._folder / BUILD_FOLDER / "consoles" / member.corpus
            consoles.mkdir(parents=True, exist_ok=True)
            guest = CollectedGuest(
                member.name,
                memory_folder / "ram",
                consoles,
                member.mebibytes,
                self._accelerator,
                disk=disk,
                work=member.work,
                load=member.load,
                seed=member.seed,
            )
            guest.console.unlink(missing_ok=True)
            self._say(f"{label}: booting Debian {disk.release}, Linux {disk.kernel}")
            running = Stopwatch()

            def watch() -> None:
                self._watch()
                running.tick()

            with guest:
                guest.wait_until_steady(watch=watch)
                steady = running.seconds
                self._say(f"{label}: at work after {steady:.0f} s")
                for file, seconds in zip(member.files, member.pauses, strict=True):
                    while running.seconds - steady < seconds:
                        time.sleep(0.2)
                        watch()
                        guest.check()
                    with guest.paused():
                        record = self._keep(member, disk, guest, file, running.seconds)
                    running.skip()
                    self._say(
                        f"{file}: {record.mebibytes} MiB after {record.seconds:.0f} s, "
                        f"{record.zero_page_share:.1%} zero pages"
                    )

    def _keep(
        self, member: Member, disk: Disk, guest: CollectedGuest, file: str, seconds: float
    ) -> ImageRecord:
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shutil.copyfile(guest.memory, partial)
        sha256, zeros = read_image(partial)
        partial.replace(path)
        record = ImageRecord(
            file=file,
            corpus=member.corpus,
            sha256=sha256,
            release=disk.release,
            codename=disk.codename,
            kernel=disk.kernel,
            workload=member.work,
            parameters=member.parameters,
            rounds=1 + guest.rounds(),
            seconds=round(seconds, 1),
            mebibytes=path.stat().st_size >> 20,
            zero_page_share=round(zeros, 4),
            accelerator=self._accelerator,
            qemu=qemu_version(),
        )
        self._manifest.add([record])
        return record


@contextmanager
def _memory_folder(build_folder: Path, mebibytes: int) -> Iterator[Path]:
    """Make a folder for a guest's RAM: in memory where there is room for it, else on the disk."""
    place = build_folder
    if os.access(_SHARED_MEMORY, os.W_OK):
        room = os.statvfs(_SHARED_MEMORY)
        if room.f_bavail * room.f_frsize > 4 * mebibytes << 20:
            place = _SHARED_MEMORY
    with tempfile.TemporaryDirectory(prefix="difffs-guest-", dir=place) as folder:
        yield Path(folder)
