"""The objects that extent headers describe, parsed in plain Python and with references to count.

A header is kept as it is stored, 16 bytes an object, and 8 more for the two counts.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from difffs import _kernels

HEADER_PREFIX = Struct("<IIIB3x")  # end, generation, domain, highest slot
RECORD = Struct("<IIII")  # place, kind, base, digest
RECORD_BYTES = RECORD.size

DEPTH_LIMIT = 15
"""Patches from an object down to its last base, at most."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a record says."""

    offset: int
    length: int
    codec: int
    pages: int
    patches: int
    base: int
    digest: int
    position: int
    """In the payload file."""


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """An extent header without its records."""

    end: int
    generation: int
    domain: int
    used: int


def parse_prefix(stored: bytes) -> StoredHeader:
    """The beginning of a header; ValueError when the whole has not the length that it says."""
    if len(stored) < HEADER_PREFIX.size or len(stored) > _kernels.HEADER_BYTES:
        raise ValueError(f"has {len(stored)} bytes")
    end, generation, domain, used = HEADER_PREFIX.unpack_from(stored)
    if RECORD_BYTES * (used + 1) != len(stored):
        raise ValueError(f"has {len(stored)} bytes for {used} slots")
    return StoredHeader(end, generation, domain, used)


class ObjectTable:
    """Objects by id."""

    def __init__(self) -> None:
        """None."""
        self._stored: dict[int, bytes] = {}
        self._pages: dict[int, array[int]] = {}
        self._patches: dict[int, array[int]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def add(self, number: int, stored: bytes) -> None:
        """Takes the objects of an extent."""
        self._stored[number] = stored
        slots = len(stored) // RECORD_BYTES
        self._pages[number] = array("I", bytes(4 * slots))
        self._patches[number] = array("I", bytes(4 * slots))
        self._count += sum(map(bool, stored[RECORD_BYTES + 4 :: RECORD_BYTES]))

    def header(self, number: int) -> bytes:
        """The header of an extent, as it was taken."""
        return self._stored[number]

    def get(self, identity: int) -> StoredObject | None:
        """The object, or None where there is none."""
        number, slot = identity >> 8, identity & 255
        stored = self._stored.get(number)
        if stored is None or not slot or RECORD_BYTES * slot >= len(stored):
            return None
        place, kind, base, digest = RECORD.unpack_from(stored, RECORD_BYTES * slot)
        if not kind & 255:
            return None
        offset = place & 0xFFFFF
        side = parse_prefix(stored).generation & 1
        return StoredObject(
            offset=offset,
            length=(place >> 20) + 1,
            codec=kind & 255,
            pages=kind >> 8 & 0x3FFF,
            patches=kind >> 22,
            base=base,
            digest=digest,
            position=(2 * number + side) * _kernels.EXTENT_SIDE_BYTES + offset,
        )

    def domain_of(self, identity: int) -> int:
        """Of the extent of an object that there is."""
        return parse_prefix(self._stored[identity >> 8]).domain

    def of_extent(self, number: int) -> Iterator[tuple[int, StoredObject]]:
        """The ids and objects of one extent."""
        for slot in range(1, len(self._stored[number]) // RECORD_BYTES):
            item = self.get(number << 8 | slot)
            if item is not None:
                yield number << 8 | slot, item

    def __iter__(self) -> Iterator[tuple[int, StoredObject]]:
        """All ids and objects."""
        for number in self._stored:
            yield from self.of_extent(number)

    def count(self, identity: int, times: int, *, by_patches: bool = False) -> bool:
        """Counts references to an object; False where there is none."""
        if self.get(identity) is None:
            return False
        counts = self._patches if by_patches else self._pages
        counts[identity >> 8][identity & 255] += times
        return True

    def counted(self, identity: int) -> tuple[int, int]:
        """(by pages, by patches): the references that were counted."""
        number, slot = identity >> 8, identity & 255
        return self._pages[number][slot], self._patches[number][slot]
