"""The LMDB index: extent headers, page table chunks, inodes and the store's own settings.

| database | key                                   | value                                     |
|----------|---------------------------------------|-------------------------------------------|
| extents  | extent number, 4 bytes big endian     | header, cut behind its highest used slot  |
| tables   | volume and chunk, 4 + 4 bytes, big e. | page table chunk, 4,080 bytes             |
| inodes   | inode number, 4 bytes big endian      | inode record                              |
| settings | name                                  | bytes                                     |
| bindings | kind (1 byte) and key of a value      | its binding (difffs/store/bindings.py)    |

No value is believed without its binding, and none is taken for missing while it has one.
"""

import mmap
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from shutil import rmtree
from struct import Struct
from typing import Any

import lmdb

from difffs._kernels import Extents, GuardedMap, lmdb_damage_of
from difffs.errors import CorruptStore, MediumFailed, OutOfResources, StoreBusy
from difffs.linux import mappings_of
from difffs.store.bindings import (
    CommitRecord,
    Kind,
    Total,
    bind,
    chunk_counts,
    extent_domain,
    is_bound,
    summary_bytes,
)
from difffs.store.index_errors import explained
from difffs.store.known_bindings import KnownBindings
from difffs.store.lmdb_name import lmdb_name

MAP_BYTES = 64 << 30
"""Upper bound of the index, reserved as address space only: 1.6 thousand million pages."""

_SMALLEST_GROWTH = 256 << 20
"""Where address space is limited (ulimit -v), so much beyond the index of today must be there."""

_COMPACT_DIRECTORY = "compact"

LOOKING_SHARE = 1 / 100
"""Of the time, that commits may spend on looking whether the file is still what it should be."""


# struct MDB_meta of LMDB 0.9, 64 bits: magic, ..., last page, transaction
_META = Struct("<I 116x QQ")
_MAGIC = 0xBEEFC0DE
_META_PAGE_BYTES = mmap.PAGESIZE

_NUMBER = Struct(">I")
_CHUNK = Struct(">II")
_HASH_BYTES = 8
_COMMIT = b"commit"
"""The setting with the commit record: the only value without a binding."""
_NAMES = {
    Kind.EXTENT: b"extents",
    Kind.TABLE: b"tables",
    Kind.INODE: b"inodes",
    Kind.SETTING: b"settings",
}

_KIND_OF_KEY = {kind.value: kind for kind in Kind}

Entry = tuple[bytes, bytes | None, bool]
"""Key, value (None where only its binding is there), and whether the binding is right."""


@dataclass(slots=True)
class Changes:
    """What one commit writes; None deletes."""

    extents: list[tuple[int, bytes | None]] = field(default_factory=list)
    tables: list[tuple[int, int, memoryview | None]] = field(default_factory=list)
    """(volume, chunk, bytes). Ranges of chunks go by `Index.drop_chunks`."""
    inodes: list[tuple[int, bytes | None]] = field(default_factory=list)
    settings: list[tuple[str, bytes]] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)
    """Of all objects, by codec, with what is changed here."""


class Index:
    """One LMDB environment. Not thread-safe: the store's lock guards it, except `commit`."""

    def __init__(
        self, path: Path, store_id: bytes, *, read_only: bool, create: bool = False
    ) -> None:
        """Opens the environment; CorruptStore or StoreReadOnly when that fails.

        O(values), but looks at their bindings only.
        """
        self.path = path
        self.commit_record = CommitRecord()
        """Of the last commit."""
        self.damage = ""
        """What is wrong with the index as a whole, so that it must not be changed."""
        self._store_id = store_id
        self._pending = self.commit_record
        if not read_only:
            rmtree(path / _COMPACT_DIRECTORY, ignore_errors=True)  # of a crash
            with suppress(OSError):
                (path / "lock.mdb").unlink(missing_ok=True)  # of builds that had LMDB lock
        self._reader: lmdb.Transaction | None = None
        if not create and not (path / "data.mdb").is_file():
            raise CorruptStore(f"{path / 'data.mdb'} is missing; restore the store from a copy")
        if not create:
            _refuse_a_damaged_file(path / "data.mdb")
        self._known = None if read_only else KnownBindings()
        self._file = -1
        self._transaction = 0
        """The last one, as it was when it ended."""
        self._next_look = 0.0
        self._guards: list[GuardedMap] = []
        try:
            self._environment = _open(path, read_only=read_only, create=create)
            try:
                self._open_databases(create=create)
                self.refresh()
                # Not by its name: the store may be moved while it is open.
                flags = os.O_RDONLY if read_only else os.O_RDWR
                self._file = os.open(path / "data.mdb", flags)
                self._guards = [
                    GuardedMap(start, length, False) for start, length in mappings_of(self._file)
                ]
                self._transaction = self._last_transaction()
                if not create:
                    self._verify_commit()
            except BaseException:
                self.close()
                raise
        except lmdb.NotFoundError as error:
            raise CorruptStore(f"{path} lacks a table ({error}); restore the store") from None
        except (lmdb.Error, OSError) as error:
            if "already open" in str(error):
                raise StoreBusy(f"{path.parent} is open in this process already") from None
            raise explained(error, path, "opened") from None

    def _open_databases(self, *, create: bool) -> None:
        self._databases = {
            kind: self._environment.open_db(name, create=create) for kind, name in _NAMES.items()
        }
        self._bindings = self._environment.open_db(b"bindings", create=create)

    def _verify_commit(self) -> None:
        """Compares the bindings that are there with the commit record."""
        stored = self._get(_COMMIT, self._databases[Kind.SETTING])
        try:
            self.commit_record = CommitRecord.unpack(self._store_id, bytes(stored or b""))
        except ValueError as error:
            self.damage = str(error)
            return
        found = CommitRecord()
        with self._reading() as transaction, transaction.cursor(db=self._bindings) as cursor:
            for key, bound in cursor:
                kind = _KIND_OF_KEY.get(bytes(key[:1]))
                if kind is None or len(bound) < _HASH_BYTES:
                    self.damage = "there is a binding of no value"
                    return
                found.add(kind, bound)
                if self._known is not None:
                    self._known.found(kind, bytes(key[1:]), bound)
        if not found.agrees(self.commit_record):
            self.damage = "its bindings are not those of the last commit"

    def close(self) -> None:
        """Closes the environment; buffers handed out are invalid from here on."""
        if self._reader is not None:
            self._reader.abort()
            self._reader = None
        for guard in self._guards:
            guard.release()
        self._environment.close()
        if self._file >= 0:
            os.close(self._file)

    def refresh(self) -> None:
        """Moves reading to the last commit; buffers handed out before are invalid."""
        if self._reader is not None:
            self._reader.abort()
        self._reader = self._environment.begin(buffers=True)
        if self._known is not None:
            self._known.follow()

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

    def _value(self, kind: Kind, key: bytes, name: str) -> memoryview | None:
        """A value; CorruptStore when it is not the one that was committed, or missing."""
        value = self._get(key, self._databases[kind])
        bound = self._get(kind.value + key, self._bindings)
        if not is_bound(bound, self._store_id, kind, key, value) or not (
            self._known is None or self._known.agrees(kind, key, bound)
        ):
            raise CorruptStore(
                f"{self.path}: {name} is missing or not the one that was committed;"
                " run `difffs check` and restore the store from a copy"
            )
        return None if value is None else memoryview(value)

    def header(self, extent: int) -> memoryview | None:
        """A stored header; valid until the next refresh."""
        return self._value(Kind.EXTENT, _NUMBER.pack(extent), f"the header of extent {extent}")

    def table(self, volume: int, chunk: int) -> memoryview | None:
        """A stored page table chunk; valid until the next refresh."""
        name = f"chunk {chunk} of the page table of volume {volume}"
        return self._value(Kind.TABLE, _CHUNK.pack(volume, chunk), name)

    def setting(self, name: str) -> bytes | None:
        """One of the store's own settings."""
        value = self._value(Kind.SETTING, name.encode(), f"the setting {name!r}")
        return None if value is None else bytes(value)

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """All values and bindings of a kind, whether they are right or not, in order of their
        keys."""
        with (
            self._reading() as transaction,
            transaction.cursor(db=self._databases[kind]) as values,
            transaction.cursor(db=self._bindings) as bindings,
        ):
            there, bound = values.first(), bindings.set_range(kind.value)
            while True:
                at = bytes(values.key()) if there else None
                bound_at = bytes(bindings.key()) if bound else b""
                if bound_at[:1] != kind.value:
                    bound = False
                if at is None and not bound:
                    return
                if kind is Kind.SETTING and at == _COMMIT:
                    there = values.next()
                elif at is not None and bound and at == bound_at[1:]:
                    value = bytes(values.value())
                    right = is_bound(bindings.value(), self._store_id, kind, at, value)
                    yield at, value, right
                    there, bound = values.next(), bindings.next()
                elif at is not None and (not bound or at < bound_at[1:]):
                    yield at, bytes(values.value()), False
                    there = values.next()
                else:
                    yield bound_at[1:], None, False
                    bound = bindings.next()

    def headers(self) -> Iterator[tuple[int, bytes]]:
        """All stored headers in order; those that are damaged are left out."""
        for key, value, right in self.entries(Kind.EXTENT):
            if right and value is not None and len(key) == _NUMBER.size:
                yield _NUMBER.unpack(key)[0], value

    def account(self, extents: Extents) -> None:
        """Tells all extents and the objects in all. O(extents), without reading a header."""
        extents.set_totals(self.commit_record.codecs)
        for key, summary in self._summaries(Kind.EXTENT, _NUMBER.size):
            extents.account(_NUMBER.unpack(key)[0], summary)

    def extent_domains(self) -> Iterator[tuple[int, int]]:
        """(number, domain) of all extents as their summaries tell, without reading a header."""
        for key, summary in self._summaries(Kind.EXTENT, _NUMBER.size):
            yield _NUMBER.unpack(key)[0], extent_domain(summary)

    def chunk_counts(self) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """(volume, (objects and lost, zeros, lost)) of all chunks, without reading one."""
        for key, summary in self._summaries(Kind.TABLE, _CHUNK.size):
            yield _CHUNK.unpack(key)[0], chunk_counts(summary)

    def _summaries(self, kind: Kind, key_bytes: int) -> Iterator[tuple[bytes, bytes]]:
        with self._reading() as transaction, transaction.cursor(db=self._bindings) as cursor:
            if not cursor.set_range(kind.value):
                return
            for key, bound in cursor:
                if bytes(key[:1]) != kind.value:
                    return
                if len(key) == 1 + key_bytes and len(bound) == _HASH_BYTES + summary_bytes(kind):
                    yield bytes(key[1:]), bytes(bound[_HASH_BYTES:])

    def chunks_of(self, volume: int, first: int, end: int, most: int) -> list[int]:
        """The first chunks, at most `most`, that the volume should have stored in [first, end), in
        order. O(chunks found)."""
        if self._known is not None and not self.damage:
            chunks = takewhile(lambda chunk: chunk < end, self._known.chunks_from(volume, first))
            return list(islice(chunks, most))
        found = self._chunks_in(self._bindings, Kind.TABLE.value, volume, first, end, most)
        if self.damage:  # what has lost its binding is no hole
            found += self._chunks_in(self._databases[Kind.TABLE], b"", volume, first, end, most)
            found = sorted(set(found))[:most]
        return found

    def _chunks_in(
        self, database: "lmdb._Database", kind: bytes, volume: int, first: int, end: int, most: int
    ) -> list[int]:
        found: list[int] = []
        at, limit = kind + _CHUNK.pack(volume, first), kind + _CHUNK.pack(volume, end)
        with self._reading() as transaction, transaction.cursor(db=database) as cursor:
            if first < end and cursor.set_range(at):
                for key in cursor.iternext(keys=True, values=False):
                    if bytes(key) >= limit or len(found) == most:
                        break
                    if len(key) == len(limit):
                        found.append(int.from_bytes(key[-4:], "big"))
        return found

    def inodes(self) -> list[tuple[int, bytes]]:
        """All inode records; of those that are damaged or missing, nothing."""
        return [
            (_NUMBER.unpack(key)[0], value if right and value is not None else b"")
            for key, value, right in self.entries(Kind.INODE)
            if len(key) == _NUMBER.size
        ]

    def begin_commit(self) -> lmdb.Transaction:
        """A transaction for one commit, to be given to the next methods in this thread."""
        if self.damage:
            raise CorruptStore(
                f"{self.path}: {self.damage}; run `difffs check` and restore the store from a copy"
            )
        self._require_whole()
        self._require_unchanged()
        self._pending = self.commit_record.following()
        if self._known is not None:
            self._known.forget_coming()  # of one that has failed
        try:
            return self._environment.begin(write=True)
        except lmdb.Error as error:
            raise explained(error, self.path) from None

    def _require_whole(self) -> None:
        """MediumFailed once a page was missing: what LMDB knows is not what is in the file."""
        if any(guard.missing for guard in self._guards):
            raise MediumFailed(
                f"{self.path / 'data.mdb'} has been cut while it was open; nothing is written any"
                " more: unmount, and run `difffs check`"
            )

    def _require_unchanged(self) -> None:
        """MediumFailed when the file is not what the last commit has left: LMDB would go on from
        what it finds there, and end the process, or spoil what is still right.

        O(pages of keys), and left out where it would take more than a part of the time.
        """
        began = time.monotonic()
        if began < self._next_look:
            return
        path = self.path / "data.mdb"
        try:
            damage = lmdb_damage_of(self._file)
        except OSError as error:
            raise explained(error, path, "read") from None
        if damage is None and self._last_transaction() != self._transaction:
            damage = "it is as it was at another commit"
        if damage is not None:
            raise MediumFailed(
                f"{path} has changed while it was open ({damage}); nothing is written any more:"
                " unmount, run `difffs check`, and restore the store from a copy"
            )
        ended = time.monotonic()
        self._next_look = ended + (ended - began) / LOOKING_SHARE

    def _last_transaction(self) -> int:
        return int(self._environment.info()["last_txnid"])

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
        kind = Kind.TABLE
        with (
            self._writing(transaction),
            transaction.cursor(db=self._databases[kind]) as values,
            transaction.cursor(db=self._bindings) as bindings,
        ):
            for volume, first, end in dropped:
                begin, limit = _CHUNK.pack(volume, first), _CHUNK.pack(volume, end)
                there = values.set_range(begin)
                while there and begin <= bytes(values.key()) < limit:
                    there = values.delete()
                begin, limit = kind.value + begin, kind.value + limit
                there = bindings.set_range(begin)
                while there and begin <= bytes(bindings.key()) < limit:
                    self._pending.remove(kind, bindings.value())
                    self._will_be(kind, bytes(bindings.key()[1:]), None)
                    there = bindings.delete()

    def put(self, transaction: lmdb.Transaction, changes: Changes) -> None:
        """Puts the changes in the transaction. Errors as for `drop_chunks`."""
        with self._writing(transaction):
            self._put(transaction, Kind.EXTENT, _numbered(changes.extents))
            tables = ((_CHUNK.pack(v, c), data) for v, c, data in sorted(changes.tables, key=_at))
            self._put(transaction, Kind.TABLE, tables)
            self._put(transaction, Kind.INODE, _numbered(changes.inodes))
            settings = ((name.encode(), value) for name, value in changes.settings)
            self._put(transaction, Kind.SETTING, settings)
            self._pending.codecs = changes.totals
            record = self._pending.pack(self._store_id)
            transaction.put(_COMMIT, record, db=self._databases[Kind.SETTING])

    @contextmanager
    def _writing(self, transaction: lmdb.Transaction) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            transaction.abort()
            if isinstance(error, lmdb.Error | OSError):
                raise explained(error, self.path) from None
            raise

    def _put(
        self,
        transaction: lmdb.Transaction,
        kind: Kind,
        records: Iterable[tuple[bytes, bytes | memoryview | None]],
    ) -> None:
        """Puts values, or deletes them (None), with their bindings."""
        database = self._databases[kind]
        for key, value in records:
            bound_key = kind.value + key
            former = transaction.get(bound_key, db=self._bindings)
            if former is not None:
                self._pending.remove(kind, former)
            if value is None:
                transaction.delete(key, db=database)
                transaction.delete(bound_key, db=self._bindings)
                self._will_be(kind, key, None)
                continue
            bound = bind(self._store_id, kind, key, value)
            self._pending.add(kind, bound)
            transaction.put(key, value, db=database)
            transaction.put(bound_key, bound, db=self._bindings)
            self._will_be(kind, key, bound)

    def _will_be(self, kind: Kind, key: bytes, bound: bytes | None) -> None:
        if self._known is not None:
            self._known.will_be(kind, key, bound)

    def end_commit(self, transaction: lmdb.Transaction) -> None:
        """Makes the transaction durable; on an error nothing has changed (StoreFull, ...)."""
        try:
            self._require_whole()
        except MediumFailed:
            transaction.abort()
            raise
        try:
            transaction.commit()
            self.commit_record = self._pending
            self._transaction = self._last_transaction()
            if self._known is not None:
                self._known.made()
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
            for database in (None, self._bindings, *self._databases.values()):
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
                    max_dbs=5,
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


def _refuse_a_damaged_file(path: Path) -> None:
    """LMDB maps its file and follows what it says: reading behind the end of a cut one, or where a
    damaged page points, would end the process; and keys that a damaged page hides would be holes.

    O(pages of keys); values are not read.
    """
    try:
        with path.open("rb") as file:
            metas = file.read(2 * _META_PAGE_BYTES)
            size = os.fstat(file.fileno()).st_size
            damage = lmdb_damage_of(file.fileno())
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
    if damage is not None:
        raise CorruptStore(
            f"{path} is damaged: {damage}; save what can be saved with `difffs check --repair`"
        )


def _at(record: tuple[int, int, memoryview | None]) -> tuple[int, int]:
    return record[0], record[1]


def _numbered(
    records: list[tuple[int, bytes | None]],
) -> Iterator[tuple[bytes, bytes | None]]:
    for number, value in sorted(records, key=lambda record: record[0]):
        yield _NUMBER.pack(number), value
