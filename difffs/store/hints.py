"""Hint tables: digests -> objects and features -> objects, in files mapped into memory.

Both only propose pages that are read and compared before use, so they live outside the index's
transactions: written in place, at no cost a commit (docs/adr/0001-store-layout.md). After a
crash the digest table is filled again from the extent headers; stale sketches do no harm.
"""

import logging
import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any

from difffs._kernels import (
    DIGEST_ID_BITS,
    FIRST_ID_BITS,
    SKETCH_ID_BITS,
    DigestTable,
    GuardedMap,
    SketchTable,
    address_of,
)
from difffs.errors import DifffsError, StoreFull
from difffs.linux import write_in_place
from difffs.store.failures import explained

logger = logging.getLogger("difffs.store")

_HEADER = Struct("<8sIIQI4xQ")
"""Magic, 1 when closed properly, body in 64 bytes, entries in use, bits of an id, and in `digests`
the number of a commit that was made."""
_HEADER_BYTES = 4096
_COMMIT = Struct("<Q")
_COMMIT_AT = _HEADER.size - _COMMIT.size
_MAGIC = {"digests": b"difffsD2", "sketches": b"difffsS3"}
_LAST_ID_BITS = {"digests": DIGEST_ID_BITS, "sketches": SKETCH_ID_BITS}

FIRST_DIGEST_SLOTS = 1024
FIRST_SKETCH_SLOTS = 1024
MAXIMUM_SKETCH_SLOTS = 6 << 20
"""24 MiB: features of the newest 1.6 million bases, so of some 8 GiB of pages. Older ones are
forgotten, because a page is most often like those of its own time, and at 16 GiB of distinct pages
the table takes 7 bytes a page instead of 12."""

FULL = 0.92
"""Share of a digest table's slots in use at which it grows. Inserting hardly ever fails below 0.95,
but then entries have to move all the time."""
CROWDED = 1.3
"""Features a slot at which a sketch table grows; the newest of a bucket stay. On a mixed and an
identical pair of images 1.1, 1.25, 1.3 and 1.4 give factors of 10.27, 10.23, 10.23 and 10.20 in
sum, for 12.5, 11.1, 10.8 and 9.9 bytes an object."""


class _MappedFile:
    """A table file of a header block and a body, mapped shared."""

    def __init__(self, path: Path, body_bytes: int) -> None:
        """Opens the file, or makes it with a body of zeros; a file of another kind is replaced."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explained(error, path, "opened") from None
        size = os.fstat(self._file).st_size
        valid = size > _HEADER_BYTES and (size - _HEADER_BYTES) % 64 == 0
        head = self._stored_header() if valid else None
        valid = head is not None
        if head is not None:
            magic, _, units, _, id_bits, _ = head
            name = path.name.removesuffix(".new")
            valid = magic == _MAGIC[name] and id_bits <= _LAST_ID_BITS[name]
            valid = valid and units * 64 == size - _HEADER_BYTES  # else it has been cut
            valid = valid and self._owns_its_blocks(size)
        if not valid:
            # Blocks are claimed now: a full disk would otherwise be a SIGBUS later.
            try:
                os.ftruncate(self._file, 0)
                with suppress(OSError):  # most file systems write in place anyway
                    write_in_place(self._file)
                os.posix_fallocate(self._file, 0, _HEADER_BYTES + body_bytes)
            except OSError as error:
                os.close(self._file)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                raise explained(error, path) from None
            size = _HEADER_BYTES + body_bytes
        self.fresh = not valid
        try:
            self._map = mmap.mmap(self._file, size)
        except OSError as error:
            os.close(self._file)
            raise explained(error, path, "mapped") from None
        self._view = memoryview(self._map)
        # A file that is cut under us has zeros there, so that it knows less; it is made anew later.
        self._guard = GuardedMap(address_of(self._view), size, True)
        self.body = self._view[_HEADER_BYTES:]

    def _stored_header(self) -> tuple[Any, ...] | None:
        """What the file's header says; None where it cannot be read: the table is made anew."""
        try:
            return _HEADER.unpack(os.pread(self._file, _HEADER.size, 0))
        except (OSError, struct.error):
            return None

    def _owns_its_blocks(self, size: int) -> bool:
        """Whether no block has to be found while the table is written in memory, where a full disk
        is a SIGBUS: a copy may have holes. A table without its blocks is made anew."""
        try:
            os.posix_fallocate(self._file, 0, size)
        except OSError:
            return False
        return True

    def header(self) -> tuple[bool, int, int, int]:
        """(closed properly, entries in use, bits of an id, commit)."""
        _magic, closed, _units, used, id_bits, commit = _HEADER.unpack_from(self._map)
        return bool(closed), used, max(id_bits, FIRST_ID_BITS), commit  # 0 in a fresh file

    def write_header(self, *, closed: bool, used: int, id_bits: int, commit: int = 0) -> None:
        """Also marks the file as one of ours.

        On the medium it never says `closed` of a body that is older or newer than it. MediumFailed,
        StoreFull, ... when it does not get there.
        """
        magic = _MAGIC[self.path.name.removesuffix(".new")]
        units = len(self.body) // 64
        try:
            if closed:
                self._map.flush()
            _HEADER.pack_into(self._map, 0, magic, int(closed), units, used, id_bits, commit)
            self._map.flush(0, _HEADER_BYTES)
        except OSError as error:
            raise explained(error, self.path) from None

    def note_commit(self, commit: int) -> None:
        """Writes the number of a commit that was made: true whenever it reaches the medium."""
        _COMMIT.pack_into(self._map, _COMMIT_AT, commit)

    def replace(self, path: Path) -> None:
        """Takes another file's name; StoreFull where even that needs room (btrfs)."""
        try:
            self.path.replace(path)
        except OSError as error:
            raise explained(error, path) from None
        self.path = path

    def close(self) -> None:
        """Unmaps; the table over the body must have let go of it."""
        self._guard.release()
        self.body.release()
        self._view.release()
        self._map.close()
        os.close(self._file)


def stored_digests(path: Path) -> tuple[DigestTable, int] | None:
    """(table, entries counted) of a digest file on disk, for checking it; None when it was not
    closed properly, and so will be filled again by the next writer."""
    try:
        stored = bytearray(path.read_bytes())
    except OSError:
        return None
    body = len(stored) - _HEADER_BYTES
    if body <= 0 or body % 64:
        return None
    magic, closed, units, used, id_bits, _commit = _HEADER.unpack_from(stored)
    if magic != _MAGIC["digests"] or not closed or units * 64 != body:
        return None
    if not FIRST_ID_BITS <= id_bits <= DIGEST_ID_BITS:
        return None
    return DigestTable(memoryview(stored)[_HEADER_BYTES:], used, id_bits), used


def noted_commit(path: Path) -> int:
    """The number of a commit that was made, from a digest file on disk; 0 where it is not told."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except OSError:
        return 0
    if len(head) < _HEADER.size or not head.startswith(_MAGIC["digests"]):
        return 0
    return int(_HEADER.unpack(head)[-1])


def _take_name(
    new: _MappedFile,
    table: DigestTable | SketchTable,
    path: Path,
    used: int,
    id_bits: int,
    commit: int,
) -> None:
    """Puts a grown table in the old one's place, or puts it away: the old one still works."""
    try:
        new.write_header(closed=False, used=used, id_bits=id_bits, commit=commit)
        new.replace(path)
    except DifffsError:
        table.release_buffer()
        new.close()
        raise


class Hints:
    """The two tables of an open store. Changed on the routing thread only."""

    def __init__(self, store: Path, digest_name: str, sketch_name: str, commit: int = 0) -> None:
        """Opens both files, making them where they are missing; `commit` is the index's last."""
        self._commit = commit
        self._digest_path = store / digest_name
        self._sketch_path = store / sketch_name
        for leftover in (f"{digest_name}.new", f"{sketch_name}.new"):
            (store / leftover).unlink(missing_ok=True)
        self._digest_file = _MappedFile(self._digest_path, 4 * FIRST_DIGEST_SLOTS)
        closed, used, id_bits, of_commit = self._digest_file.header()
        self.complete = closed and not self._digest_file.fresh and of_commit == commit
        """Whether the digest table knows every digest: if not, the store fills it again when it
        is opened next."""
        self.digests = DigestTable(self._digest_file.body, used, id_bits)
        self._sketch_file = _MappedFile(self._sketch_path, 4 * FIRST_SKETCH_SLOTS)
        id_bits = self._sketch_file.header()[2]
        self.sketches = SketchTable(self._sketch_file.body, id_bits)
        try:
            self._write_headers(complete=False)
        except DifffsError:
            self._let_go()
            raise

    def close(self, *, complete: bool = True) -> None:
        """Writes the headers and unmaps; `complete`: the digests are those of the last commit."""
        try:
            self._write_headers(complete=complete and self.complete)
        except DifffsError as error:
            # Nothing is lost: a table that is not marked closed is filled again.
            logger.warning("%s", error)
        self._let_go()

    def _let_go(self) -> None:
        self.digests.release_buffer()
        self.sketches.release_buffer()
        self._digest_file.close()
        self._sketch_file.close()

    def _write_headers(self, *, complete: bool) -> None:
        digests, sketches = self.digests, self.sketches
        self._digest_file.write_header(
            closed=complete, used=digests.used, id_bits=digests.id_bits, commit=self._commit
        )
        self._sketch_file.write_header(closed=False, used=0, id_bits=sketches.id_bits)

    def note_commit(self, commit: int) -> None:
        """Tells the number of a commit that is on the medium. With it, an index that has gone back
        in time as a whole is noticed."""
        self._commit = commit
        self._digest_file.note_commit(commit)

    def make_room(self, digests: int, bases: int, features: int) -> None:
        """Grows the tables for so many digests, and so many bases with so many features each."""
        while digests > FULL * self.digests.slots and self.digests.next_slots:
            self.grow_digests()
        while (
            bases * features > CROWDED * self.sketches.slots
            and self.sketches.slots < MAXIMUM_SKETCH_SLOTS
        ):
            self._grow_sketches()

    def grow_digests(self) -> None:
        """Gives the digest table its next size; StoreFull where there is none, or no room."""
        slots = self.digests.next_slots
        if not slots:
            raise StoreFull(f"{self._digest_path} cannot become larger; use another store")
        new = _MappedFile(self._digest_path.with_suffix(".new"), 4 * slots)
        table = self.digests.grow_into(new.body)
        _take_name(new, table, self._digest_path, table.used, table.id_bits, self._commit)
        self.digests.release_buffer()
        self._digest_file.close()
        self._digest_file, self.digests = new, table

    def clear_digests(self) -> None:
        """Empties the digest table."""
        self._digest_file.body[:] = bytes(len(self._digest_file.body))
        self.digests = DigestTable(self._digest_file.body)

    def _grow_sketches(self) -> None:
        new = _MappedFile(self._sketch_path.with_suffix(".new"), 4 * self.sketches.next_slots)
        table = self.sketches.grow_into(new.body)
        _take_name(new, table, self._sketch_path, 0, table.id_bits, 0)
        self.sketches.release_buffer()
        self._sketch_file.close()
        self._sketch_file, self.sketches = new, table

    def __enter__(self) -> "Hints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(complete=kind is None)
