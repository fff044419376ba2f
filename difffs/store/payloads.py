"""The payload file: extents side by side in one sparse file.

Extent e has two sides of 1 MiB of file address space, at (2 e) and (2 e + 1) MiB; one of them is
current. Address space costs nothing; what is punched out costs no blocks either.
"""

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path

from difffs._kernels import EXTENT_SIDE_BYTES
from difffs.errors import CorruptStore, EnvironmentProblem, MediumFailed, PayloadDamaged
from difffs.linux import punch_hole
from difffs.store.failures import explained

logger = logging.getLogger("difffs.store")


def _spare_access_times(file: int) -> None:
    """Lets reads leave the file's access time alone; only its owner and root may ask for that."""
    with suppress(PermissionError):
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_NOATIME)


class PayloadFile:
    """Writes and punches sides. Reading objects is the native kernels' (native/extents.c)."""

    def __init__(self, path: Path, *, read_only: bool, create: bool = False) -> None:
        """Opens the file; CorruptStore when it is missing."""
        self.path = path
        flags = os.O_RDONLY if read_only else os.O_RDWR | (os.O_CREAT if create else 0)
        try:
            self.file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise CorruptStore(
                f"{path} is missing: the store has lost its payloads; restore it from a copy"
            ) from None
        except OSError as error:
            raise explained(error, path, "opened") from None
        _spare_access_times(self.file)
        self._unsynced = False
        self._undiscarded: set[tuple[int, int]] = set()
        if create:
            try:
                os.ftruncate(self.file, EXTENT_SIDE_BYTES)
                punch_hole(self.file, 0, EXTENT_SIDE_BYTES)
            except OSError as error:
                os.close(self.file)
                raise EnvironmentProblem(
                    f"{path}: the file system cannot punch holes ({error.strerror});"
                    " keep stores on ext4, xfs, btrfs or tmpfs"
                ) from None

    def close(self) -> None:
        """Closes the file."""
        os.close(self.file)

    def write(self, extent: int, side: int, position: int, data: memoryview | bytes) -> None:
        """Writes into a side; StoreFull when the file system has no room (nothing is lost)."""
        self._undiscarded.discard((extent, side))
        at = (2 * extent + side) * EXTENT_SIDE_BYTES + position
        view = memoryview(data)
        self._unsynced = True
        try:
            while view:
                written = os.pwrite(self.file, view, at)
                at += written
                view = view[written:]
        except OSError as error:
            raise explained(error, self.path) from None

    def read(self, extent: int, side: int, length: int) -> bytes:
        """The first bytes of a side; fewer where the file ends. PayloadDamaged when it cannot be
        read."""
        at = (2 * extent + side) * EXTENT_SIDE_BYTES
        parts = []
        while length:
            try:
                part = os.pread(self.file, length, at)
            except OSError as error:
                reason = explained(error, self.path, "read")
                if isinstance(reason, MediumFailed):
                    reason = PayloadDamaged(
                        f"{self.path}: extent {extent} cannot be read ({error.strerror}) and is"
                        " left as it is; see the kernel's log, and run `difffs check`"
                    )
                raise reason from None
            if not part:
                break
            parts.append(part)
            at += len(part)
            length -= len(part)
        return b"".join(parts)

    def discard(self, extent: int, side: int) -> None:
        """Gives a side's blocks back. What cannot be given back now (a copy-on-write file system
        needs room for that) is remembered for `discard_again`: the data is dead in any case."""
        try:
            punch_hole(self.file, (2 * extent + side) * EXTENT_SIDE_BYTES, EXTENT_SIDE_BYTES)
        except OSError as error:
            if not self._undiscarded:
                logger.warning(
                    "%s: dead bytes could not be given back (%s); tried again with each commit",
                    self.path,
                    error.strerror,
                )
            self._undiscarded.add((extent, side))

    @property
    def has_undiscarded(self) -> bool:
        """Whether dead bytes are still to be given back."""
        return bool(self._undiscarded)

    def discard_again(self) -> None:
        """Gives back what could not be given back before and has not been written since."""
        failed, self._undiscarded = self._undiscarded, set()
        for extent, side in failed:
            self.discard(extent, side)
            if self._undiscarded:
                self._undiscarded = failed  # one refusal is enough; punching twice does no harm
                return

    def discard_behind(self, extent: int, side: int, end: int) -> None:
        """Gives the whole blocks behind byte `end` of a side back."""
        block = -(-end // 4096) * 4096
        if block < EXTENT_SIDE_BYTES:
            at = (2 * extent + side) * EXTENT_SIDE_BYTES
            punch_hole(self.file, at + block, EXTENT_SIDE_BYTES - block)

    def sweep(self, used: dict[int, tuple[int, int]]) -> None:
        """After a crash: gives back all but what the index names, as extent -> (side, end)."""
        extents = -(-os.fstat(self.file).st_size // (2 * EXTENT_SIDE_BYTES))
        unused_from = 0
        for extent in sorted(used):
            self._discard_extents(unused_from, extent)
            unused_from = extent + 1
            side, end = used[extent]
            self.discard(extent, 1 - side)
            with suppress(OSError):  # some slack: swept again after the next crash
                self.discard_behind(extent, side, end)
        self._discard_extents(unused_from, extents)

    def _discard_extents(self, first: int, end: int) -> None:
        if first < end:
            size = 2 * EXTENT_SIDE_BYTES
            with suppress(OSError):  # likewise
                punch_hole(self.file, first * size, (end - first) * size)

    def synchronise(self) -> None:
        """Returns when all that was written is on the medium.

        MediumFailed, whatever the reason: the kernel takes the pages for clean from then on, so
        that asking again would be answered with a success that means nothing.
        """
        if self._unsynced:
            try:
                os.fdatasync(self.file)
            except OSError as error:
                raise MediumFailed(
                    f"{self.path} did not reach its medium ({error.strerror}); the last commit"
                    " stands: see the kernel's log, unmount, and mount again"
                ) from None
            self._unsynced = False
