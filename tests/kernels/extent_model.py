"""Extent headers in plain Python, and a file to put payloads in."""

import os
from dataclasses import dataclass, field
from struct import Struct

from difffs.codec import Codec
from tests.kernels import kernel_oracle as oracle

SIDE_BYTES = 1 << 20
SLOTS = 254
MAXIMUM_PAGE_REFERENCES = 16383
MAXIMUM_PATCH_REFERENCES = 1023

_PREFIX = Struct("<IBBHI")  # end, side, used, reserved, extent; the checksum comes before it
_RECORD = Struct("<IB3sII")  # place, kind, references, digest, checksum
_WORD = Struct("<I")


@dataclass
class Record:
    """One object of an extent."""

    offset: int
    length: int
    codec: int
    depth: int = 0
    pages: int = 0
    patches: int = 0
    digest: int = 0
    checksum: int = 0

    def pack(self) -> bytes:
        both = self.pages | self.patches << 14
        return _RECORD.pack(
            self.offset | (self.length - 1) << 20,
            self.codec | self.depth << 4,
            both.to_bytes(3, "little"),
            self.digest,
            self.checksum,
        )


@dataclass
class Header:
    """An extent: its records by slot, and where its payloads end."""

    number: int
    side: int = 0
    end: int = 0
    used: int = 0
    records: dict[int, Record] = field(default_factory=dict)

    def pack(self) -> bytes:
        """As stored: cut behind the highest slot ever used."""
        body = _PREFIX.pack(self.end, self.side, self.used, 0, self.number)
        for slot in range(1, self.used + 1):
            body += self.records[slot].pack() if slot in self.records else bytes(16)
        return _WORD.pack(oracle.checksum(body)) + body

    @property
    def live_bytes(self) -> int:
        return sum(record.length for record in self.records.values())

    @property
    def summary(self) -> tuple[int, int, int, int]:
        return self.side, self.end, self.live_bytes, len(self.records)


def unpacked(stored: bytes) -> Header:
    """The inverse of Header.pack."""
    end, side, used, _reserved, number = _PREFIX.unpack_from(stored, 4)
    header = Header(number, side, end, used)
    for slot in range(1, used + 1):
        place, kind, references, digest, checksum = _RECORD.unpack_from(stored, 16 * slot)
        both = int.from_bytes(references, "little")
        if kind & 15:
            header.records[slot] = Record(
                place & 0xFFFFF,
                (place >> 20) + 1,
                kind & 15,
                kind >> 4,
                both & 0x3FFF,
                both >> 14,
                digest,
                checksum,
            )
    return header


class ExtentFile:
    """A payload file in memory, filled by hand."""

    def __init__(self) -> None:
        self.file = os.memfd_create("extents")
        self.headers: dict[int, Header] = {}

    def close(self) -> None:
        os.close(self.file)

    def position(self, number: int) -> int:
        """Where the extent's current side begins in the file."""
        return (2 * number + self.headers[number].side) * SIDE_BYTES

    def add(
        self,
        number: int,
        codec: int,
        payload: bytes,
        *,
        page: bytes = b"",
        base: int | None = None,
        depth: int = 0,
        pages: int = 1,
        slot: int | None = None,
    ) -> int:
        """Appends an object to an extent (made when missing); its id. `base` goes in front."""
        header = self.headers.setdefault(number, Header(number))
        if base is not None:
            payload = _WORD.pack(base) + payload
        if slot is None:
            slot = header.used + 1
        header.used = max(header.used, slot)
        header.records[slot] = Record(
            header.end,
            len(payload),
            codec,
            depth,
            pages,
            0,
            oracle.digest(page) & 0xFFFFFFFF,
            oracle.checksum(payload),
        )
        os.pwrite(self.file, payload, self.position(number) + header.end)
        header.end += len(payload)
        return number << 8 | slot

    def add_raw(self, number: int, page: bytes, pages: int = 1) -> int:
        return self.add(number, Codec.RAW, page, page=page, pages=pages)

    def add_patch(self, number: int, page: bytes, base_id: int, base: bytes, depth: int = 1) -> int:
        """A zstd patch of page against the base; the base counts it."""
        identity = self.add(
            number,
            Codec.ZSTD_PREFIX,
            oracle.zstd_encode(page, base),
            page=page,
            base=base_id,
            depth=depth,
        )
        self.record(base_id).patches += 1
        return identity

    def record(self, identity: int) -> Record:
        return self.headers[identity >> 8].records[identity & 255]
