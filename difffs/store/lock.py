"""One writer or many readers: a lock on the store's lock file."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType

from difffs.errors import StoreBusy, TryAgain
from difffs.linux import cached_status
from difffs.store.failures import explained
from difffs.store.format import LOCK_FILE

_NO_NOTE = b"\n"
"""Never nothing: the file keeps its block, so that a note can be left when the disk is full."""


class StoreLock:
    """Held while a store is open; the kernel drops it with the process.

    A writer leaves a note in the file (its process and mount point) for others to read.
    """

    def __init__(self, store: Path, *, shared: bool) -> None:
        """Takes the lock; StoreBusy tells who holds it."""
        self._path = store / LOCK_FILE
        self._shared = shared
        self._file = -1
        try:
            flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
            self._file = os.open(self._path, flags | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            return  # a store that nobody has opened for writing yet; nothing to wait for
        except OSError as error:
            raise explained(error, self._path, "opened") from None
        try:
            mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise StoreBusy(
                f"{store} is in use by {describe_note(read_note(store))};"
                " unmount it or wait for that process to end"
            ) from None
        if not shared:
            try:
                # The lock counts. On a full copy-on-write file system there is no room for a note,
                # and opening the store may be what makes some.
                with suppress(TryAgain):
                    self.write_note(f"process {os.getpid()}")
            except BaseException:
                os.close(self._file)
                raise

    def write_note(self, text: str) -> None:
        """Replaces the note (lines of text)."""
        if self._shared:
            raise ValueError("only a writer leaves a note")
        data = os.fsencode(text) or _NO_NOTE  # paths need not be UTF-8
        try:
            os.pwrite(self._file, data, 0)
            os.ftruncate(self._file, len(data))
        except OSError as error:
            raise explained(error, self._path) from None

    def release(self) -> None:
        """Lets others in."""
        if self._file < 0:
            return
        if not self._shared:
            with suppress(OSError, TryAgain):  # a note too many is better than a lock too long
                self.write_note("")
        os.close(self._file)
        self._file = -1

    def __enter__(self) -> "StoreLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def read_note(store: Path) -> str:
    """What the writer that has the store open (or crashed with it) left as its note."""
    try:
        return os.fsdecode((store / LOCK_FILE).read_bytes()).strip()
    except OSError:
        return ""


def mount_note(mountpoint: str, device: int) -> str:
    """The note of a process that has the store mounted; `device` is the mount's st_dev."""
    return (
        f"process {os.getpid()}\n"
        f"device {os.major(device)}:{os.minor(device)}\n"
        f"mounted on {mountpoint}"
    )


def describe_note(note: str) -> str:
    """A note in a sentence."""
    words = re.sub(r"\ndevice [0-9:]+(?=\n|\Z)", "", note, count=1)
    return words.replace("\n", ", ") or "another process"


@dataclass(frozen=True, slots=True)
class StoreUse:
    """What can be told of the writer of a store, which may be one in another namespace."""

    process: int | None
    """Its id here; None when it cannot be seen from here."""
    device: int | None
    """st_dev of its mount; None when it has none, or not yet."""
    note: str

    def describe(self) -> str:
        """Who it is, in a sentence; the process id in there is the one of its own namespace."""
        return describe_note(self.note)


def is_in_use(store: Path) -> bool:
    """Whether somebody has the store open for writing. False as well where there is no store."""
    try:
        file = os.open(store / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def use_of(store: Path) -> StoreUse:
    """Who has the store open for writing; to be asked only while somebody has (`is_in_use`)."""
    note = read_note(store)
    claimed = re.match(r"process ([0-9]+)", note)
    device = re.search(r"\ndevice ([0-9]+):([0-9]+)(?=\n|\Z)", note)
    return StoreUse(
        _process_with_lock(store, int(claimed.group(1)) if claimed else None),
        os.makedev(int(device.group(1)), int(device.group(2))) if device else None,
        note,
    )


def _process_with_lock(store: Path, claimed: int | None) -> int | None:
    """The process that has the lock file open: the claimed one, or another.

    The claimed id is one of another namespace when the writer runs in one.
    """
    hidden = False
    with suppress(OSError):
        wanted = cached_status(store / LOCK_FILE)[:2]
        others = (int(name) for name in os.listdir("/proc") if name.isdecimal())
        for process in chain(() if claimed is None else (claimed,), others):
            try:
                if process != os.getpid() and wanted in _open_files(process):
                    return process
            except PermissionError:  # somebody else's, so at least it exists
                hidden = hidden or process == claimed
            except OSError:
                continue  # it ended
    return claimed if hidden else None


def _open_files(process: int) -> Iterator[tuple[tuple[int, int], int]]:
    """Device and inode of a process's files; none of their file systems is asked, it may hang."""
    folder = f"/proc/{process}/fd"
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed in the meantime
            yield cached_status(f"{folder}/{name}")[:2]
