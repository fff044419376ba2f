"""One writer or many readers: a lock on the store's lock file."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from difffs.errors import StoreBusy, TryAgain
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
            note = read_note(store)
            os.close(self._file)
            raise StoreBusy(
                f"{store} is in use by {note.replace(chr(10), ', ') or 'another process'};"
                " unmount it or wait for that process to end"
            ) from None
        if not shared:
            try:
                self.write_note(f"process {os.getpid()}")
            except BaseException:
                os.close(self._file)
                raise

    def write_note(self, text: str) -> None:
        """Replaces the note (lines of text)."""
        if self._shared:
            raise ValueError("only a writer leaves a note")
        data = text.encode() or _NO_NOTE
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
        return (store / LOCK_FILE).read_text(errors="replace").strip()
    except OSError:
        return ""
