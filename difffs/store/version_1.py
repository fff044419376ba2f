"""Stores of version 1: read as they are, as if they were of today (docs/store-format.md)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct

from difffs import _kernels
from difffs.codec import Codec
from difffs.errors import CorruptStore
from difffs.store.bindings import Kind
from difffs.store.format import DICTIONARY
from difffs.store.index import Entry, Index
from difffs.store.object_table import HEADER_PREFIX, RECORD

_PREFIX = Struct("<IIBBHI")  # checksum, end, side, highest slot, reserved, extent
_RECORD = Struct("<IB3sII")  # place, kind, references, digest, checksum
_BASE = Struct("<I")
_CHECKSUM = Struct("<I")
_NUMBER = Struct(">I")
_CHUNK = Struct(">II")
FORMER_DICTIONARY = b"dictionary"
NEW_DICTIONARY = DICTIONARY.encode()
_PATCHES = frozenset(codec for codec in Codec if codec.is_patch)
_LONGEST_PAYLOAD = 4096

Payload = Callable[[int, int, int, int], bytes]
"""What gives a payload, at least its first bytes, from (object's id, position in the payload file,
length, checksum)."""


def convert_header(number: int, stored: bytes, payload: Payload | None) -> bytes:
    """An extent header as today's; ValueError when it is damaged. Without `payload`, patches have
    no base, which only matters to who reads them."""
    if len(stored) < _PREFIX.size or len(stored) > _kernels.HEADER_BYTES:
        raise ValueError(f"an extent header of {len(stored)} bytes")
    checksum, end, side, used, _reserved, named = _PREFIX.unpack_from(stored)
    if _kernels.checksum(stored[_CHECKSUM.size :]) != checksum:
        raise ValueError("an extent header whose checksum is wrong")
    if named != number or len(stored) != _RECORD.size * (used + 1) or side > 1:
        raise ValueError(f"the header of extent {named}")
    converted = bytearray(HEADER_PREFIX.pack(end, side, 0, used, 0))
    for slot in range(1, used + 1):
        place, kind, references, digest, of_payload = _RECORD.unpack_from(stored, 16 * slot)
        codec, offset, length = kind & 15, place & 0xFFFFF, (place >> 20) + 1
        base = 0
        if payload is not None and codec:
            position = (2 * number + side) * _kernels.EXTENT_SIDE_BYTES + offset
            content = payload(number << 8 | slot, position, length, of_payload)
            if codec in _PATCHES:
                (base,) = _BASE.unpack_from(content.ljust(_BASE.size, b"\0"))
        if codec in _PATCHES:  # the base's id lies in front
            if length <= _BASE.size:
                raise ValueError("an extent header with a patch of nothing")
            offset, length = offset + _BASE.size, length - _BASE.size
        both = int.from_bytes(references, "little")
        place = offset | length - 1 << 20 if codec else 0
        converted += RECORD.pack(place, codec | both << 8, base, digest)
    return bytes(converted)


def convert_chunk(stored: bytes) -> bytes:
    """A page table chunk as today's; ValueError when it is damaged."""
    if len(stored) != _kernels.TABLE_BYTES:
        raise ValueError(f"a page table chunk of {len(stored)} bytes")
    if stored[: _CHECKSUM.size] != _CHECKSUM.pack(_kernels.checksum(stored[_CHECKSUM.size :])):
        raise ValueError("a page table chunk whose checksum is wrong")
    return bytes(_CHECKSUM.size) + stored[_CHECKSUM.size :]


def convert_dictionary(stored: bytes) -> bytes:
    """A dictionary as today's; ValueError when it is damaged."""
    content = stored[_CHECKSUM.size :]
    if not content or stored[: _CHECKSUM.size] != _CHECKSUM.pack(_kernels.checksum(content)):
        raise ValueError("a dictionary whose checksum is wrong")
    return content


def former_payload(file: int, position: int, length: int, checksum: int) -> bytes | None:
    """A payload, with the id of a patch's base in front; None when it is damaged."""
    content = os.pread(file, min(length, _LONGEST_PAYLOAD), position)
    if len(content) == length and _kernels.checksum(content) == checksum:
        return content
    return None


class FormerIndex(Index):
    """The index of version 1, for reading only; nothing binds its values but their checksums."""

    def __init__(self, path: Path, payload_file: int, *, verify: bool = False) -> None:
        """With `verify`, a header is damaged unless all its payloads have their checksums."""
        self._payload_file = payload_file
        self._verify = verify
        super().__init__(path, b"", read_only=True)

    def _open_databases(self, *, create: bool) -> None:
        names = {Kind.EXTENT: b"extents", Kind.TABLE: b"tables", Kind.INODE: b"inodes"}
        names[Kind.SETTING] = b"settings"
        self._databases = {
            kind: self._environment.open_db(name, create=False) for kind, name in names.items()
        }

    def _verify_commit(self) -> None:
        pass

    def _payload(self, identity: int, position: int, length: int, checksum: int) -> bytes:
        """The payload; nothing when it is damaged, or ValueError where that counts."""
        content = former_payload(self._payload_file, position, length, checksum)
        if content is not None:
            return content
        if self._verify:
            raise ValueError(f"the checksum of object {identity & 255} is wrong")
        return b""

    def _converted(self, kind: Kind, key: bytes, stored: bytes) -> bytes:
        if kind is Kind.EXTENT:
            return convert_header(_NUMBER.unpack(key)[0], stored, self._payload)
        if kind is Kind.TABLE:
            return convert_chunk(stored)
        if kind is Kind.SETTING and key == NEW_DICTIONARY:
            return convert_dictionary(stored)
        return stored

    def _value(self, kind: Kind, key: bytes, name: str) -> memoryview | None:
        former = FORMER_DICTIONARY if kind is Kind.SETTING and key == NEW_DICTIONARY else key
        stored = self._get(former, self._databases[kind])
        if stored is None:
            return None
        try:
            return memoryview(self._converted(kind, key, bytes(stored)))
        except ValueError as error:
            raise CorruptStore(
                f"{self.path}: {name} is damaged ({error});"
                " run `difffs check` and restore the store from a copy"
            ) from None

    def _raw(self, kind: Kind) -> Iterator[tuple[bytes, bytes]]:
        with self._reading() as transaction, transaction.cursor(db=self._databases[kind]) as cursor:
            for key, value in cursor:
                yield bytes(key), bytes(value)

    def count(self, kind: Kind) -> int:
        """Values of a kind."""
        with self._reading() as transaction:
            return int(transaction.stat(self._databases[kind])["entries"])

    def entries(self, kind: Kind) -> Iterator[Entry]:
        """All values of a kind, converted, or as they are where they are damaged."""
        for former, stored in self._raw(kind):
            key = NEW_DICTIONARY if kind is Kind.SETTING and former == FORMER_DICTIONARY else former
            try:
                yield key, self._converted(kind, key, stored), True
            except ValueError:
                yield key, stored, False

    def account(self, extents: _kernels.Extents) -> None:
        """Tells all extents and their objects. O(objects)."""
        for key, stored in self._raw(Kind.EXTENT):
            number = _NUMBER.unpack(key)[0]
            header = convert_header(number, stored, None)
            extents.account(number, _kernels.header_summary(header))
            extents.count_objects(header)
        self.commit_record.codecs = extents.totals()

    def extent_domains(self) -> Iterator[tuple[int, int]]:
        """Nothing: there are no summaries, and no domains."""
        return iter(())

    def chunk_counts(self) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """(volume, counts) of all chunks."""
        for key, stored in self._raw(Kind.TABLE):
            volume, chunk = _CHUNK.unpack(key)
            try:
                yield volume, _kernels.table_counts(convert_chunk(stored))
            except ValueError as error:
                raise CorruptStore(
                    f"{self.path}: chunk {chunk} of the page table of volume {volume} is damaged"
                    f" ({error}); run `difffs check` and restore the store from a copy"
                ) from None

    def chunks_of(self, volume: int, first: int, end: int, most: int) -> list[int]:
        """The first chunks, at most `most`, that the volume has stored in [first, end)."""
        return self._chunks_in(self._databases[Kind.TABLE], b"", volume, first, end, most)
