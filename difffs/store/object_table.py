"""The objects that extent headers describe, parsed in plain Python and with references to count.

A header is kept as it is stored, 16 bytes an object, and 8 more for the two counts.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from difffs import _kernels
from difffs.codec import GROUP_CODECS, GroupCodec

HEADER_PREFIX = Struct("<IIIBB2x")  # end, generation, domain, highest slot, refined
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
    """Of the payload; 0 of a member."""
    pages: int
    """That refer to it; of a group 0."""
    patches: int
    """That refer to it; of a group its members."""
    base: int
    """Of a patch; of a member its group."""
    digest: int
    position: int
    """In the payload file."""
    group_page: int = 0
    """Of a member: which page of the group it is."""
    members_made: int = 0
    """Of a group: pages in its payload."""

    @property
    def is_group(self) -> bool:
        """Whether it is nobody's page, but has the payload of several."""
        return self.codec in GROUP_CODECS

    @property
    def is_member(self) -> bool:
        """Whether its page is one of a group's."""
        return self.codec == GroupCodec.MEMBER


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """An extent header without its records."""

    end: int
    generation: int
    domain: int
    used: int
    refined: int


def parse_prefix(stored: bytes) -> StoredHeader:
    """The beginning of a header; ValueError when the whole has not the length that it says."""
    if len(stored) < HEADER_PREFIX.size or len(stored) > _kernels.HEADER_BYTES:
        raise ValueError(f"has {len(stored)} bytes")
    end, generation, domain, used, refined = HEADER_PREFIX.unpack_from(stored)
    if RECORD_BYTES * (used + 1) != len(stored):
        raise ValueError(f"has {len(stored)} bytes for {used} slots")
    return StoredHeader(end, generation, domain, used, refined)


def parse_record(stored: bytes, number: int, slot: int, side: int) -> StoredObject | None:
    """The object in a slot of an extent's header, or None where it is free."""
    place, kind, base, digest = RECORD.unpack_from(stored, RECORD_BYTES * slot)
    codec = kind & 255
    if not codec:
        return None
    offset, length = place & 0xFFFFF, (place >> 20) + 1
    pages, patches, members_made, group_page = kind >> 8 & 0x3FFF, kind >> 22, 0, 0
    if codec in GROUP_CODECS:
        length = (place >> 20 | (kind >> 8 & 63) << 12) + 1
        pages, patches, members_made = 0, kind >> 14 & 127, kind >> 21 & 127
    elif codec == GroupCodec.MEMBER:
        offset, length, group_page = 0, 0, place
    position = (2 * number + side) * _kernels.EXTENT_SIDE_BYTES + offset
    return StoredObject(
        *(offset, length, codec, pages, patches, base, digest, position),
        group_page=group_page,
        members_made=members_made,
    )


def pack_record(item: StoredObject, offset: int, pages: int, patches: int) -> bytes:
    """The record of an object with its payload at another offset, and other counts."""
    length = item.length - 1
    place, kind = offset | (length & 0xFFF) << 20, item.codec | pages << 8 | patches << 22
    if item.is_group:
        kind = item.codec | length >> 12 << 8 | patches << 14 | item.members_made << 21
    elif item.is_member:
        place = item.group_page
    return RECORD.pack(place, kind, item.base, item.digest)


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
        return parse_record(stored, number, slot, parse_prefix(stored).generation & 1)

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
