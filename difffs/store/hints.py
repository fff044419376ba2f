"""Hint tables: digests -> objects and features -> objects, in files mapped into memory.

Both only propose pages that are read and compared before use, so they live outside the index's
transactions: written in place, at no cost a commit (docs/adr/0001-store-layout.md). After a
crash the digest table is filled again from the extent headers; stale sketches do no harm.
"""

import errno
import mmap
import os
from pathlib import Path
from struct import Struct
from types import TracebackType

from difffs._kernels import DigestTable, SketchTable
from difffs.errors import StoreFull, StoreReadOnly

_HEADER = Struct("<8sIIQ")  # magic, 1 when closed properly, body in 64 bytes, entries in use
_HEADER_BYTES = 4096
_MAGIC = {"digests": b"difffsDG", "sketches": b"difffsS2"}

FIRST_DIGEST_BUCKETS = 64
FIRST_SKETCH_SLOTS = 1024
FIRST_ID_BITS = 10
MAXIMUM_SKETCH_SLOTS = 6 << 20
"""24 MiB: features of the newest 1.6 million bases, so of some 8 GiB of pages. Older ones are
forgotten, because a page is most often like those of its own time, and at 16 GiB of distinct pages
the table takes 7 bytes a page instead of 12."""

_FULL = 0.88
"""Share of a digest table's entries in use at which it grows."""
_GROWTH = 1.12
_CROWDED = 1.3
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
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(f"no space left for {path}; free some there") from None
            raise StoreReadOnly(
                f"{path} cannot be opened ({error.strerror}); make the store writable"
            ) from None
        size = os.fstat(self._file).st_size
        valid = size > _HEADER_BYTES and (size - _HEADER_BYTES) % 64 == 0
        if valid:
            magic, _closed, units, _used = _HEADER.unpack(os.pread(self._file, _HEADER.size, 0))
            valid = magic == _MAGIC[path.name.removesuffix(".new")]
            valid = valid and units * 64 == size - _HEADER_BYTES  # else it has been cut
        if not valid:
            os.ftruncate(self._file, 0)
            # Blocks are claimed now: a full disk would otherwise be a SIGBUS later.
            try:
                os.posix_fallocate(self._file, 0, _HEADER_BYTES + body_bytes)
            except OSError as error:
                os.close(self._file)
                path.unlink(missing_ok=True)
                raise StoreFull(f"no space left for {path} ({error.strerror})") from None
            size = _HEADER_BYTES + body_bytes
        self.fresh = not valid
        self._map = mmap.mmap(self._file, size)
        self._view = memoryview(self._map)
        self.body = self._view[_HEADER_BYTES:]

    def header(self) -> tuple[bool, int]:
        """(closed properly, entries in use)."""
        _magic, closed, _units, used = _HEADER.unpack_from(self._map)
        return bool(closed), used

    def write_header(self, *, closed: bool, used: int) -> None:
        """Also marks the file as one of ours.

        On the medium it never says `closed` of a body that is older or newer than it.
        """
        if closed:
            self._map.flush()
        magic = _MAGIC[self.path.name.removesuffix(".new")]
        _HEADER.pack_into(self._map, 0, magic, int(closed), len(self.body) // 64, used)
        self._map.flush(0, _HEADER_BYTES)

    def replace(self, path: Path) -> None:
        """Takes another file's name."""
        self.path.replace(path)
        self.path = path

    def close(self) -> None:
        """Unmaps; the table over the body must have let go of it."""
        self.body.release()
        self._view.release()
        self._map.close()
        os.close(self._file)


def stored_digests(path: Path) -> tuple[list[tuple[int, int]], int] | None:
    """(pairs, entries counted) of a digest file on disk, for checking it; None when it was not
    closed properly, and so will be filled again by the next writer."""
    try:
        stored = bytearray(path.read_bytes())
    except OSError:
        return None
    body = len(stored) - _HEADER_BYTES
    if body <= 0 or body % 64:
        return None
    magic, closed, units, used = _HEADER.unpack_from(stored)
    if magic != _MAGIC["digests"] or not closed or units * 64 != body:
        return None
    return DigestTable(memoryview(stored)[_HEADER_BYTES:]).pairs(), used


class Hints:
    """The two tables of an open store. Changed on the routing thread only."""

    def __init__(self, store: Path, digest_name: str, sketch_name: str) -> None:
        """Opens both files, making them where they are missing."""
        self._digest_path = store / digest_name
        self._sketch_path = store / sketch_name
        for leftover in (f"{digest_name}.new", f"{sketch_name}.new"):
            (store / leftover).unlink(missing_ok=True)
        self._digest_file = _MappedFile(self._digest_path, 64 * FIRST_DIGEST_BUCKETS)
        closed, used = self._digest_file.header()
        self.complete = closed and not self._digest_file.fresh
        """Whether the digest table knows every digest: if not, the store fills it again when it
        is opened next."""
        self.digests = DigestTable(self._digest_file.body, used)
        self._sketch_file = _MappedFile(self._sketch_path, 4 * FIRST_SKETCH_SLOTS)
        _closed, id_bits = self._sketch_file.header()
        self.sketches = SketchTable(self._sketch_file.body, id_bits or FIRST_ID_BITS)
        self._digest_file.write_header(closed=False, used=used)
        self._sketch_file.write_header(closed=False, used=self.sketches.id_bits)

    def close(self, *, complete: bool = True) -> None:
        """Writes the headers and unmaps; `complete`: the digests are those of the last commit."""
        complete = complete and self.complete
        self._digest_file.write_header(closed=complete, used=self.digests.used)
        self._sketch_file.write_header(closed=False, used=self.sketches.id_bits)
        self.digests.release_buffer()
        self.sketches.release_buffer()
        self._digest_file.close()
        self._sketch_file.close()

    def make_room(self, references: int, features: int) -> None:
        """Grows the tables for what they hold now (references: objects that can be bases)."""
        if self.digests.used > _FULL * self.digests.entries:
            self.resize_digests(self.digests.used)
        slots = self.sketches.slots
        if references * features > _CROWDED * slots and slots < MAXIMUM_SKETCH_SLOTS:
            self._grow_sketches()

    def resize_digests(self, entries: int) -> None:
        """Makes room for that many entries and some more."""
        while True:
            entries = int(entries * _GROWTH / _FULL) + 8
            buckets = max(FIRST_DIGEST_BUCKETS, -(-entries // 8))
            new = _MappedFile(self._digest_path.with_suffix(".new"), 64 * buckets)
            new.write_header(closed=False, used=0)
            table = DigestTable(new.body)
            if self.digests.copy_into(table):
                break
            table.release_buffer()  # an unlucky pile of equal digests; a larger table has room
            new.close()
            new.path.unlink()
        self.digests.release_buffer()
        self._digest_file.close()
        new.replace(self._digest_path)
        self._digest_file, self.digests = new, table

    def clear_digests(self) -> None:
        """Empties the digest table."""
        self._digest_file.body[:] = bytes(len(self._digest_file.body))
        self.digests = DigestTable(self._digest_file.body)

    def _grow_sketches(self) -> None:
        new = _MappedFile(self._sketch_path.with_suffix(".new"), 4 * self.sketches.next_slots)
        table = self.sketches.grow_into(new.body)
        new.write_header(closed=False, used=table.id_bits)
        self.sketches.release_buffer()
        self._sketch_file.close()
        new.replace(self._sketch_path)
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
