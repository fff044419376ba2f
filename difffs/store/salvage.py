"""What of a damaged index is what was committed, and whether all of that is there.

Values and bindings are read page by page, without LMDB (difffs/store/lmdb_file.py). Where a value
and its binding disagree, either may be the damaged one, and where one is missing, so may be the
other. The commit record tells: it has the sum of all bindings, and only one choice gives that sum.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from difffs.store.bindings import CommitRecord, Kind, bind, is_bound
from difffs.store.lmdb_file import LmdbFile
from difffs.store.version_1 import (
    FORMER_DICTIONARY,
    NEW_DICTIONARY,
    convert_chunk,
    convert_dictionary,
    convert_header,
    former_payload,
)

_NAMES = {
    Kind.EXTENT: b"extents",
    Kind.TABLE: b"tables",
    Kind.INODE: b"inodes",
    Kind.SETTING: b"settings",
}
_KIND_OF_KEY = {kind.value: kind for kind in Kind}
_COMMIT = b"commit"
_HASH_BYTES = 8
_MOST_CHOICES = 1 << 15
"""Combinations of what may be right that are added up."""

_Key = tuple[Kind, bytes]


class Salvage:
    """The index of a store of today. Memory: some 200 bytes a value, so 2 an object."""

    def __init__(self, path: Path, store_id: bytes) -> None:
        """Reads all of it. CorruptStore when nothing can be read at all."""
        self._store_id = store_id
        self._file = LmdbFile(path / "data.mdb")
        self.record: CommitRecord | None = None
        """Of the last commit, unless it is damaged."""
        self.notes: list[str] = []
        """What is wrong, one line each."""
        self.is_whole = False
        """Whether all that was committed is known: what is not named was not there."""
        self.is_proven = False
        """Whether the commit record says so; else, what is there may be of an earlier time."""
        self._right: dict[_Key, bytes] = {}
        """The bindings that count."""
        self.missing: dict[Kind, list[bytes]] = {kind: [] for kind in Kind}
        """Keys of values that were committed, or may have been, and are gone."""
        self._judge()
        self.may_be_former = self._file.may_be_former
        """Whether it may be that of the commit before the last."""
        self.notes += self._file.damaged

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def values(self, kind: Kind) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values that are those that were committed, each once."""
        given: set[bytes] = set()  # a block that is there twice may repeat some
        for key, value in self._file.entries(_NAMES[kind]):
            bound = self._right.get((kind, key))
            if bound is None or key in given:
                continue
            if is_bound(bound, self._store_id, kind, key, value):
                given.add(key)
                yield key, value

    def _bind(self, kind: Kind, key: bytes, value: bytes) -> bytes | None:
        try:
            return bind(self._store_id, kind, key, value)
        except ValueError:
            return None

    def _stored_bindings(self) -> dict[_Key, bytes]:
        found: dict[_Key, bytes] = {}
        for key, bound in self._file.entries(b"bindings"):
            kind = _KIND_OF_KEY.get(key[:1])
            if kind is None or len(bound) < _HASH_BYTES:
                self.notes.append(f"a binding of no value, {key.hex()}")
            else:
                found[kind, key[1:]] = bound
        return found

    def _judge(self) -> None:
        stored = self._stored_bindings()
        agreed: set[_Key] = set()
        of_values: dict[_Key, bytes | None] = {}
        """Bindings that values without a right one would have; None for what is no such value."""
        for kind, name in _NAMES.items():
            for key, value in self._file.entries(name):
                if kind is Kind.SETTING and key == _COMMIT:
                    self._read_record(value)
                    continue
                bound = stored.get((kind, key))
                if bound is not None and is_bound(bound, self._store_id, kind, key, value):
                    agreed.add((kind, key))
                else:
                    of_values.setdefault((kind, key), self._bind(kind, key, value))
        doubtful = [each for each in {**stored, **of_values} if each not in agreed]
        if self.record is None:
            self.notes.append("the commit record is gone")
        certain = CommitRecord()
        for each in agreed:
            certain.add(each[0], stored[each])
        chosen = self._choose(certain, doubtful, stored, of_values)
        proven = self.is_proven = chosen is not None
        if chosen is None:
            self.is_whole = not self._file.damaged and self._has_lost_only_settings(doubtful)
            chosen = {each: stored.get(each) for each in doubtful}
            self.notes.append(
                "its commit record is not that of the last commit; all else agrees with itself"
                if self.is_whole
                else "what is there is not all that the last commit made, or not as it was then"
            )
        else:
            self.is_whole = True
        self._right = {each: stored[each] for each in agreed}
        for each, bound in chosen.items():
            kind, of_kind = each
            what = f"{kind.name.lower()} {of_kind.hex()}"
            if bound is not None:
                self._right[each] = bound
            if bound is None and proven:
                self.notes.append(f"{what} is of another time")
            elif bound is None or bound != of_values.get(each):
                self.missing[kind].append(of_kind)
            else:
                self.notes.append(f"the binding of {what} was damaged")

    def _read_record(self, value: bytes) -> None:
        try:
            self.record = CommitRecord.unpack(self._store_id, value)
        except ValueError as error:
            self.notes.append(str(error))

    def _has_lost_only_settings(self, doubtful: list[_Key]) -> bool:
        """The commit record lies among the settings. Where these alone show damage, it is no
        witness, and nothing speaks against the rest."""
        of_settings = all(kind is Kind.SETTING for kind, _key in doubtful)
        return of_settings and (bool(doubtful) or self.record is None)

    def _choose(
        self,
        certain: CommitRecord,
        doubtful: list[_Key],
        stored: dict[_Key, bytes],
        of_values: dict[_Key, bytes | None],
    ) -> dict[_Key, bytes | None] | None:
        """For each doubtful key the binding that the last commit summed up, None where it had no
        such value; or None in all when no choice gives its sum."""
        if self.record is None:
            return None
        # Values first: two damaged bindings may cancel each other out in the sum, values do not.
        options = [
            list(dict.fromkeys((of_values.get(key), stored.get(key), None))) for key in doubtful
        ]
        by_value = [of_values.get(key) or stored.get(key) for key in doubtful]
        by_binding = [stored.get(key) or of_values.get(key) for key in doubtful]
        tries: list[Iterable[tuple[bytes | None, ...]]] = [[tuple(by_value)], [tuple(by_binding)]]
        count = 1
        for each in options:
            count *= len(each)
        if count <= _MOST_CHOICES:
            tries.insert(1, product(*options))
        for choices in tries:
            for choice in choices:
                if self._gives_the_sum(certain, doubtful, choice):
                    return dict(zip(doubtful, choice, strict=True))
        return None

    def _gives_the_sum(
        self, certain: CommitRecord, keys: list[_Key], choice: tuple[bytes | None, ...]
    ) -> bool:
        assert self.record is not None
        found = certain.following()
        for (kind, _key), bound in zip(keys, choice, strict=True):
            if bound is not None:
                found.add(kind, bound)
        return found.agrees(self.record)


class FormerSalvage:
    """The index of a store of version 1, as one of today: values have checksums of their own, and
    nothing tells which there were."""

    def __init__(self, path: Path, payload_file: int) -> None:
        """Opens it. CorruptStore when nothing can be read at all."""
        self._file = LmdbFile(path / "data.mdb")
        self._payload_file = payload_file
        self.record: CommitRecord | None = None
        self.missing: dict[Kind, list[bytes]] = {kind: [] for kind in Kind}
        for kind in Kind:
            for key, value in self._file.entries(_NAMES[kind]):
                if self._converted(kind, key, value, payloads=False) is None:
                    self.missing[kind].append(key)
        self.notes = list(self._file.damaged)
        self.is_whole = self.is_proven = not self.notes
        self.may_be_former = self._file.may_be_former

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def values(self, kind: Kind) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values, converted, whose checksums are right."""
        for key, stored in self._file.entries(_NAMES[kind]):
            value = self._converted(kind, key, stored, payloads=True)
            if value is not None:
                known = key == FORMER_DICTIONARY and kind is Kind.SETTING
                yield (NEW_DICTIONARY if known else key), value

    def _converted(self, kind: Kind, key: bytes, stored: bytes, *, payloads: bool) -> bytes | None:
        try:
            if kind is Kind.EXTENT:
                number = int.from_bytes(key, "big")
                return convert_header(number, stored, self._payload if payloads else None)
            if kind is Kind.TABLE:
                return convert_chunk(stored)
            if kind is Kind.SETTING and key == b"dictionary":
                return convert_dictionary(stored)
        except ValueError:
            return None
        return stored

    def _payload(self, _identity: int, position: int, length: int, checksum: int) -> bytes:
        return former_payload(self._payload_file, position, length, checksum) or b""
