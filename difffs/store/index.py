"""The LMDB index: extent headers, page table chunks, inodes and the store's own settings.

| database | key                                   | value                                     |
|----------|---------------------------------------|-------------------------------------------|
| extents  | extent number, 4 bytes big endian     | header, cut behind its highest used slot  |
| tables   | volume and chunk, 4 + 4 bytes, big e. | page table chunk, 4,080 bytes             |
| inodes   | inode number, 4 bytes big endian      | inode record                              |
| settings | name                                  | bytes                                     |
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from struct import Struct
from typing import Any

import lmdb

from difffs.errors import CorruptStore, OutOfResources, StoreBusy
from difffs.store.index_errors import explained
from difffs.store.lmdb_name import lmdb_name

MAP_BYTES = 64 << 30
"""Upper bound of the index, reserved as address space only: 1.6 thousand million pages."""

_SMALLEST_GROWTH = 256 << 20
"""Where address space is limited (ulimit -v), so much beyond the index of today must be there."""

_COMPACT_DIRECTORY = "compact"

# struct MDB_meta of LMDB 0.9, 64 bits: magic, ..., last page, transaction
_META = Struct("<I 116x QQ")
_MAGIC = 0xBEEFC0DE
_META_PAGE_BYTES = mmap.PAGESIZE

_NUMBER = Struct(">I")
_CHUNK = Struct(">II")


@dataclass(slots=True)
class Changes:
    """What one commit writes; None deletes."""

    extents: list[tuple[int, bytes | None]] = field(default_factory=list)
    tables: list[tuple[int, int, memoryview | None]] = field(default_factory=list)
    """(volume, chunk, bytes). Ranges of chunks go by `Index.drop_chunks`."""
    inodes: list[tuple[int, bytes | None]] = field(default_factory=list)
    settings: list[tuple[str, bytes]] = field(default_factory=list)


class Index:
    """One LMDB environment. Not thread-safe: the store's lock guards it, except `commit`."""

    def __init__(self, path: Path, *, read_only: bool, create: bool = False) -> None:
        """Opens the environment; CorruptStore or StoreReadOnly when that fails."""
        self.path = path
        if not read_only:
            rmtree(path / _COMPACT_DIRECTORY, ignore_errors=True)  # of a crash
            with suppress(OSError):
                (path / "lock.mdb").unlink(missing_ok=True)  # of builds that had LMDB lock
        self._reader: lmdb.Transaction | None = None
        if not create and not (path / "data.mdb").is_file():
            raise CorruptStore(f"{path / 'data.mdb'} is missing; restore the store from a copy")
        if not create:
            _refuse_a_cut_file(path / "data.mdb")
        try:
            self._environment = _open(path, read_only=read_only, create=create)
            names = (b"extents", b"tables", b"inodes", b"settings")
            if read_only:
                opened = [self._environment.open_db(name, create=False) for name in names]
            else:
                opened = [self._environment.open_db(name) for name in names]
            self._extents, self._tables, self._inodes, self._settings = opened
            self.refresh()
            # Not by its name: the store may be moved while it is open.
            self._file = os.open(path / "data.mdb", os.O_RDONLY if read_only else os.O_RDWR)
        except lmdb.NotFoundError as error:
            raise CorruptStore(f"{path} lacks a table ({error}); restore the store") from None
        except (lmdb.Error, OSError) as error:
            if "already open" in str(error):
                raise StoreBusy(f"{path.parent} is open in this process already") from None
            raise explained(error, path, "opened") from None

    def close(self) -> None:
        """Closes the environment; buffers handed out are invalid from here on."""
        if self._reader is not None:
            self._reader.abort()
            self._reader = None
        self._environment.close()
        os.close(self._file)

    def refresh(self) -> None:
        """Moves reading to the last commit; buffers handed out before are invalid."""
        if self._reader is not None:
            self._reader.abort()
        self._reader = self._environment.begin(buffers=True)

    def _get(self, key: bytes, database: "lmdb._Database") -> Any:
        assert self._reader is not None
        try:
            return self._reader.get(key, db=database)
        except lmdb.Error as error:
            raise explained(error, self.path / "data.mdb", "read") from None

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        """The read transaction; what LMDB says of a damaged page names the file and the remedy."""
        assert self._reader is not None
        try:
            yield self._reader
        except lmdb.Error as error:
            raise explained(error, self.path / "data.mdb", "read") from None

    def header(self, extent: int) -> memoryview | None:
        """A stored header; valid until the next refresh."""
        value = self._get(_NUMBER.pack(extent), self._extents)
        return None if value is None else memoryview(value)

    def table(self, volume: int, chunk: int) -> memoryview | None:
        """A stored page table chunk; valid until the next refresh."""
        value = self._get(_CHUNK.pack(volume, chunk), self._tables)
        return None if value is None else memoryview(value)

    def setting(self, name: str) -> bytes | None:
        """One of the store's own settings."""
        value = self._get(name.encode(), self._settings)
        return None if value is None else bytes(value)

    def headers(self) -> Iterator[tuple[int, memoryview]]:
        """All stored headers in order."""
        with self._reading() as transaction, transaction.cursor(db=self._extents) as cursor:
            for key, value in cursor:
                yield _NUMBER.unpack(key)[0], memoryview(value)

    def tables(self) -> Iterator[tuple[int, int, memoryview]]:
        """All stored page table chunks as (volume, chunk, bytes), in order."""
        with self._reading() as transaction, transaction.cursor(db=self._tables) as cursor:
            for key, value in cursor:
                volume, chunk = _CHUNK.unpack(key)
                yield volume, chunk, memoryview(value)

    def chunks_of(self, volume: int, first: int, end: int, most: int) -> list[int]:
        """The first chunks, at most `most`, that the volume has stored in [first, end), in order.
        O(chunks found)."""
        found: list[int] = []
        with self._reading() as transaction, transaction.cursor(db=self._tables) as cursor:
            if first < end and cursor.set_range(_CHUNK.pack(volume, first)):
                for key in cursor.iternext(keys=True, values=False):
                    owner, chunk = _CHUNK.unpack(key)
                    if owner != volume or chunk >= end or len(found) == most:
                        break
                    found.append(chunk)
        return found

    def inodes(self) -> list[tuple[int, bytes]]:
        """All inode records."""
        with self._reading() as transaction, transaction.cursor(db=self._inodes) as cursor:
            return [(_NUMBER.unpack(key)[0], bytes(value)) for key, value in cursor]

    def begin_commit(self) -> lmdb.Transaction:
        """A transaction for one commit, to be given to the next methods in this thread."""
        try:
            return self._environment.begin(write=True)
        except lmdb.Error as error:
            raise explained(error, self.path) from None

    def abandon(self, transaction: lmdb.Transaction) -> None:
        """Ends a transaction without effect, if it has not ended yet."""
        transaction.abort()

    def commit(self, changes: Changes) -> None:
        """One whole commit."""
        transaction = self.begin_commit()
        self.put(transaction, changes)
        self.end_commit(transaction)

    def drop_chunks(
        self, transaction: lmdb.Transaction, dropped: Iterable[tuple[int, int, int]]
    ) -> None:
        """Deletes the page table chunks [first, end) of volumes, given as (volume, first, end).

        On an error the transaction is gone, and the index as it was.
        """
        with self._writing(transaction), transaction.cursor(db=self._tables) as cursor:
            for volume, first, end in dropped:
                limit = _CHUNK.pack(volume, end)
                there = cursor.set_range(_CHUNK.pack(volume, first))
                while there and bytes(cursor.key()) < limit:
                    there = cursor.delete()

    def put(self, transaction: lmdb.Transaction, changes: Changes) -> None:
        """Puts the changes in the transaction. Errors as for `drop_chunks`."""
        with self._writing(transaction):
            self._put(transaction, self._extents, _numbered(changes.extents))
            tables = ((_CHUNK.pack(v, c), data) for v, c, data in sorted(changes.tables, key=_at))
            self._put(transaction, self._tables, tables)
            self._put(transaction, self._inodes, _numbered(changes.inodes))
            for name, value in changes.settings:
                transaction.put(name.encode(), value, db=self._settings)

    @contextmanager
    def _writing(self, transaction: lmdb.Transaction) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            transaction.abort()
            if isinstance(error, lmdb.Error | OSError):
                raise explained(error, self.path) from None
            raise

    @staticmethod
    def _put(
        transaction: lmdb.Transaction,
        database: "lmdb._Database",
        records: Iterable[tuple[bytes, bytes | memoryview | None]],
    ) -> None:
        for key, value in records:
            if value is None:
                transaction.delete(key, db=database)
            else:
                transaction.put(key, value, db=database)

    def end_commit(self, transaction: lmdb.Transaction) -> None:
        """Makes the transaction durable; on an error nothing has changed (StoreFull, ...)."""
        try:
            transaction.commit()
            # LMDB does not write pages that a transaction took and gave back, so the file may end
            # before its last page; grown to it, a file that is shorter has been cut.
            whole = (self._environment.info()["last_pgno"] + 1) * _META_PAGE_BYTES
            if os.fstat(self._file).st_size < whole:
                os.ftruncate(self._file, whole)
        except (lmdb.Error, OSError) as error:
            raise explained(error, self.path) from None

    def compact(self) -> None:
        """Rewrites the index without its free pages; the last thing before it is closed.

        StoreFull when there is no room for a second copy: the index is as it was.
        """
        copy = self.path / _COMPACT_DIRECTORY
        rmtree(copy, ignore_errors=True)
        try:
            copy.mkdir(mode=0o700)
            with lmdb_name(copy) as name:
                self._environment.copy(name, compact=True)
            _synchronise(copy / "data.mdb", os.O_RDWR)
            (copy / "data.mdb").replace(self.path / "data.mdb")
            synchronise_directory(self.path)
        except (OSError, lmdb.Error) as error:
            raise explained(error, self.path, "compacted") from None
        finally:
            rmtree(copy, ignore_errors=True)

    def free_bytes(self) -> int:
        """Bytes of the index file that hold nothing (pages for the next commits)."""
        information = self._environment.info()
        used = 4096 * 2  # the two meta pages
        with self._environment.begin() as transaction:
            for database in (None, self._extents, self._tables, self._inodes, self._settings):
                status = transaction.stat(database) if database else self._environment.stat()
                used += 4096 * (
                    status["branch_pages"] + status["leaf_pages"] + status["overflow_pages"]
                )
        return max(0, (information["last_pgno"] + 1) * 4096 - used)


def _open(path: Path, *, read_only: bool, create: bool) -> lmdb.Environment:
    """Opens LMDB with as large a map as the process may have: all of it only reserves addresses."""
    file = path / "data.mdb"
    needed = file.stat().st_size if file.exists() else 0
    smallest = needed if read_only else needed + _SMALLEST_GROWTH
    # Nobody writes: no more is ever looked at than what is there.
    size = max(needed, 1 << 20) if read_only else MAP_BYTES
    while True:
        try:
            with lmdb_name(path, create=create) as name:
                return lmdb.open(
                    name,
                    map_size=size,
                    max_dbs=4,
                    readonly=read_only,
                    readahead=False,
                    # Without LMDB's table of readers, a file that is written through memory: on
                    # a full copy-on-write file system that is a SIGBUS. The store's own lock admits
                    # one process, which has one writing thread, and whose one reader moves to each
                    # commit before the next transaction begins (refresh): LMDB uses pages again
                    # that the commit before the last one has freed.
                    lock=False,
                    create=create,
                )
        except lmdb.MemoryError:
            if size // 2 < smallest:
                raise OutOfResources(
                    f"{path} needs {max(smallest, 1 << 20) >> 20} MiB of address space, which the"
                    " process may not have: raise the limit (ulimit -v)"
                ) from None
            size //= 2


def synchronise_directory(path: Path) -> None:
    """Returns when the directory's entries are on the medium."""
    _synchronise(path, os.O_RDONLY | os.O_DIRECTORY)


def _synchronise(path: Path, flags: int) -> None:
    file = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _refuse_a_cut_file(path: Path) -> None:
    """LMDB maps its file, so reading behind the end of a cut one would end the process."""
    try:
        with path.open("rb") as file:
            metas = file.read(2 * _META_PAGE_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise explained(error, path, "read") from None
    last_pages = [
        _META.unpack_from(metas, at)
        for at in (16, _META_PAGE_BYTES + 16)
        if len(metas) >= at + _META.size
    ]
    # (magic, last page, transaction) of the newer of the two meta pages
    valid = [meta for meta in last_pages if meta[0] == _MAGIC]
    newest = max(valid, key=lambda meta: meta[2], default=None)
    if newest is None or size < (newest[1] + 1) * _META_PAGE_BYTES:
        raise CorruptStore(
            f"{path} is no LMDB index or has been cut off at {size} bytes;"
            " restore the store from a copy"
        )


def _at(record: tuple[int, int, memoryview | None]) -> tuple[int, int]:
    return record[0], record[1]


def _numbered(
    records: list[tuple[int, bytes | None]],
) -> Iterator[tuple[bytes, bytes | None]]:
    for number, value in sorted(records, key=lambda record: record[0]):
        yield _NUMBER.pack(number), value
