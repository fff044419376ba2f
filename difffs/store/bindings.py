"""What binds every value of the index to its key and its store, and all of them to the commit.

Beside each value lies its *binding*, in another block of the file: a hash over the store's id, the
value's key, its summary and itself. Thus a block of the index that was exchanged, repeated or has
gone back in time does not agree with the bindings of what it holds. The *commit record* counts the
values and sums up their bindings: with it, bindings that have gone back in time do not agree.

A *summary* is what opening a store needs of a value: with it, the value need not be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from struct import Struct

from difffs._kernels import HEADER_SUMMARY_BYTES, binding, header_summary

STORE_ID_BYTES = 16

_HASH = Struct("<Q")
_SUM_LIMIT = 1 << 64
_RECORD = Struct("<Q4QQ")  # number, values of each kind, sum of all bindings
_TOTAL = Struct("<4Q")
_COUNTS = Struct("<III")
_CHUNK_SUMMARY = Struct("<HHH")
_EXTENT_SUMMARY = Struct("<II")  # generation, domain, ...


class Kind(Enum):
    """Which database a value is in; the first byte of its binding's key.

    Extents are the most, and their numbers ascend: with the last letter, they fill LMDB's pages.
    """

    INODE = b"I"
    SETTING = b"S"
    TABLE = b"T"
    EXTENT = b"X"


_KINDS = list(Kind)

Total = tuple[int, int, int, int]
"""Of one codec: objects, payload bytes, references by pages, objects without any."""


def summary_of(kind: Kind, value: bytes | bytearray | memoryview) -> bytes:
    """What opening needs to know of a value; ValueError when it is no such value."""
    if kind is Kind.EXTENT:
        return header_summary(value)
    if kind is Kind.TABLE:
        counts = _COUNTS.unpack_from(value, 4) if len(value) >= 4 + _COUNTS.size else (1 << 16,)
        if max(counts) >= 1 << 16:
            raise ValueError("a page table chunk that is cut, or counts more pages than it has")
        return _CHUNK_SUMMARY.pack(*counts)
    return b""


def summary_bytes(kind: Kind) -> int:
    """Length of summaries of that kind."""
    if kind is Kind.EXTENT:
        return HEADER_SUMMARY_BYTES
    return _CHUNK_SUMMARY.size if kind is Kind.TABLE else 0


def extent_domain(summary: bytes) -> int:
    """The domain of an extent."""
    _generation, domain = _EXTENT_SUMMARY.unpack_from(summary)
    return int(domain)


def chunk_counts(summary: bytes) -> tuple[int, int, int]:
    """(objects and lost, zeros, lost) of a page table chunk."""
    objects, zeros, lost = _CHUNK_SUMMARY.unpack(summary)
    return objects, zeros, lost


def bind(store_id: bytes, kind: Kind, key: bytes, value: bytes | bytearray | memoryview) -> bytes:
    """The binding of a value: a hash of 8 bytes, and its summary."""
    summary = summary_of(kind, value)
    return _HASH.pack(binding(store_id + kind.value + key + summary, value)) + summary


def is_bound(
    stored: bytes | memoryview | None,
    store_id: bytes,
    kind: Kind,
    key: bytes,
    value: bytes | memoryview | None,
) -> bool:
    """Whether a value has this binding; both may be missing together."""
    if stored is None or value is None:
        return stored is None and value is None
    summary = bytes(stored[_HASH.size :])
    if len(summary) != summary_bytes(kind):
        return False
    (found,) = _HASH.unpack_from(stored)
    return bool(found == binding(store_id + kind.value + key + summary, value))


@dataclass(slots=True)
class CommitRecord:
    """What a commit says of all values."""

    number: int = 0
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    total: int = 0
    """Sum of the bindings' hashes."""
    codecs: Sequence[Total] = ()
    """By codec: objects, payload bytes, references by pages, objects without any."""

    def add(self, kind: Kind, bound: bytes | memoryview) -> None:
        """Counts a binding."""
        self.counts[kind] += 1
        self.total = (self.total + int(_HASH.unpack_from(bound)[0])) % _SUM_LIMIT

    def remove(self, kind: Kind, bound: bytes | memoryview) -> None:
        """Takes a binding back."""
        self.counts[kind] -= 1
        self.total = (self.total - int(_HASH.unpack_from(bound)[0])) % _SUM_LIMIT

    def following(self) -> "CommitRecord":
        """A copy to make the next commit's of."""
        return CommitRecord(self.number + 1, dict(self.counts), self.total, self.codecs)

    def agrees(self, other: "CommitRecord") -> bool:
        """Whether both count the same values and sum up the same bindings."""
        return self.counts == other.counts and self.total == other.total

    def pack(self, store_id: bytes) -> bytes:
        """As stored, with a hash of its own at the end."""
        counts = [self.counts[kind] for kind in _KINDS]
        body = _RECORD.pack(self.number, *counts, self.total)
        codecs = list(self.codecs)
        while codecs and not any(codecs[-1]):
            codecs.pop()  # a difffs that knows fewer codecs reads a store that has none of the rest
        body += b"".join(_TOTAL.pack(*total) for total in codecs)
        return body + _HASH.pack(binding(store_id, body))

    @classmethod
    def unpack(cls, store_id: bytes, stored: bytes) -> "CommitRecord":
        """The inverse of pack; ValueError when it is damaged."""
        body = stored[: -_HASH.size]
        if len(body) < _RECORD.size or (len(body) - _RECORD.size) % _TOTAL.size:
            raise ValueError(f"the commit record has {len(stored)} bytes")
        if stored[-_HASH.size :] != _HASH.pack(binding(store_id, body)):
            raise ValueError("the commit record is damaged, or another store's")
        number, *counts, total = _RECORD.unpack_from(body)
        codecs: list[Total] = list(_TOTAL.iter_unpack(body[_RECORD.size :]))
        return cls(number, dict(zip(_KINDS, counts, strict=True)), total, codecs)
