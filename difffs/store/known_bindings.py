"""What a process that has a store open for writing knows of its index: the hash of every header's
and page table chunk's binding, as it found them at opening and has changed them since.

A value agrees with its binding also when both are of an earlier commit. Opening compares all
bindings with the commit record; from then on this tells that pages of the index have gone back in
time. 8 bytes an extent; some 100 a chunk, so a tenth of a byte a page.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from struct import Struct

from difffs.store.bindings import Kind

_EXTENT = Struct(">I")
_CHUNK = Struct(">II")
_HASH = Struct("<Q")
_KEY_BYTES = {Kind.EXTENT: _EXTENT.size, Kind.TABLE: _CHUNK.size}


class KnownBindings:
    """Those of the last commit that reading follows, and those of one that is being made."""

    def __init__(self) -> None:
        """Of an empty index."""
        self._extents = array("Q")
        self._chunks: dict[int, dict[int, int]] = {}
        self._in_order: dict[int, list[int]] = {}
        """Of volumes that were asked for since they changed: their chunks, ascending."""
        self._coming: dict[tuple[Kind, bytes], bytes | None] = {}
        self._made: dict[tuple[Kind, bytes], bytes | None] = {}

    def found(self, kind: Kind, key: bytes, bound: bytes | memoryview) -> None:
        """It is there when the store is opened."""
        if len(key) == _KEY_BYTES.get(kind):
            self._set(kind, key, _HASH.unpack_from(bound)[0])

    def will_be(self, kind: Kind, key: bytes, bound: bytes | None) -> None:
        """The commit that is being made puts it, or removes it (None)."""
        if kind in _KEY_BYTES:
            self._coming[kind, key] = bound

    def forget_coming(self) -> None:
        """That commit has failed."""
        self._coming.clear()

    def made(self) -> None:
        """That commit is on the medium; reading still sees the one before."""
        self._made |= self._coming
        self._coming.clear()

    def follow(self) -> None:
        """Reading has moved to the last commit that was made."""
        for (kind, key), bound in self._made.items():
            self._set(kind, key, 0 if bound is None else _HASH.unpack_from(bound)[0])
        self._made.clear()

    def _set(self, kind: Kind, key: bytes, known: int) -> None:
        if kind is Kind.EXTENT:
            (number,) = _EXTENT.unpack(key)
            if number >= len(self._extents):
                self._extents.frombytes(bytes(8 * (number + 1 - len(self._extents))))
            self._extents[number] = known
            return
        volume, chunk = _CHUNK.unpack(key)
        chunks = self._chunks.setdefault(volume, {})
        if known:
            if chunk not in chunks:
                self._in_order.pop(volume, None)
            chunks[chunk] = known
        elif chunks.pop(chunk, None) is not None:
            self._in_order.pop(volume, None)
        if not chunks:
            del self._chunks[volume]

    def agrees(self, kind: Kind, key: bytes, bound: bytes | memoryview | None) -> bool:
        """Whether a binding that was read is the one of the last commit; None: there is none."""
        if kind not in _KEY_BYTES:
            return True
        if kind is Kind.EXTENT:
            (number,) = _EXTENT.unpack(key)
            known = self._extents[number] if number < len(self._extents) else 0
        else:
            volume, chunk = _CHUNK.unpack(key)
            known = self._chunks.get(volume, {}).get(chunk, 0)
        return bool(known == (0 if bound is None else _HASH.unpack_from(bound)[0]))

    def chunks_from(self, volume: int, first: int) -> Iterator[int]:
        """The volume's chunks from one on, ascending. O(chunks) after a change, else O(log)."""
        if volume not in self._in_order:
            self._in_order[volume] = sorted(self._chunks.get(volume, ()))
        chunks = self._in_order[volume]
        for at in range(bisect_left(chunks, first), len(chunks)):
            yield chunks[at]
