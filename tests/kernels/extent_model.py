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

_PREFIX = Struct("<IIIB3x")  # end, generation, domain, used
_SUMMARY = Struct("<IIIIB")  # generation, domain, end, live bytes, live slots
_RECORD = Struct("<IIII")  # place, kind, base, digest


@dataclass
class Record:
    """One object of an extent."""

    offset: int
    length: int
    codec: int
    pages: int = 0
    patches: int = 0
    base: int = 0
    digest: int = 0

    def pack(self) -> bytes:
        return _RECORD.pack(
            self.offset | (self.length - 1) << 20,
            self.codec | self.pages << 8 | self.patches << 22,
            self.base,
            self.digest,
        )


@dataclass
class Header:
    """An extent: its records by slot, and where its payloads end."""

    number: int
    generation: int = 0
    end: int = 0
    used: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    domain: int = 0

    @property
    def side(self) -> int:
        return self.generation & 1

    def pack(self) -> bytes:
        """As stored: cut behind the highest slot ever used."""
        body = _PREFIX.pack(self.end, self.generation, self.domain, self.used)
        for slot in range(1, self.used + 1):
            body += self.records[slot].pack() if slot in self.records else bytes(16)
        return body

    def pack_summary(self) -> bytes:
        """What the index tells of the extent beside the header."""
        return _SUMMARY.pack(
            self.generation, self.domain, self.end, self.live_bytes, len(self.records)
        )

    @property
    def live_bytes(self) -> int:
        return sum(record.length for record in self.records.values())

    @property
    def summary(self) -> tuple[int, int, int, int]:
        return self.side, self.end, self.live_bytes, len(self.records)


def unpacked(number: int, stored: bytes) -> Header:
    """The inverse of Header.pack."""
    end, generation, domain, used = _PREFIX.unpack_from(stored)
    header = Header(number, generation, end, used, domain=domain)
    for slot in range(1, used + 1):
        place, kind, base, digest = _RECORD.unpack_from(stored, 16 * slot)
        if kind & 255:
            header.records[slot] = Record(
                place & 0xFFFFF,
                (place >> 20) + 1,
                kind & 255,
                kind >> 8 & 0x3FFF,
                kind >> 22,
                base,
                digest,
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
        base: int = 0,
        pages: int = 1,
        slot: int | None = None,
    ) -> int:
        """Appends an object to an extent (made when missing); its id. The page of a word may be
        left out."""
        header = self.headers.setdefault(number, Header(number))
        if codec == Codec.SAME and not page:
            page = payload * 512
        if slot is None:
            slot = header.used + 1
        header.used = max(header.used, slot)
        header.records[slot] = Record(
            header.end,
            len(payload),
            codec,
            pages,
            0,
            base,
            oracle.digest(page) & 0xFFFFFFFF,
        )
        os.pwrite(self.file, payload, self.position(number) + header.end)
        header.end += len(payload)
        return number << 8 | slot

    def add_raw(self, number: int, page: bytes, pages: int = 1) -> int:
        return self.add(number, Codec.RAW, page, page=page, pages=pages)

    def add_patch(self, number: int, page: bytes, base_id: int, base: bytes) -> int:
        """A zstd patch of page against the base; the base counts it."""
        identity = self.add(
            number,
            Codec.ZSTD_PREFIX,
            oracle.zstd_encode(page, base),
            page=page,
            base=base_id,
        )
        self.record(base_id).patches += 1
        return identity

    def record(self, identity: int) -> Record:
        return self.headers[identity >> 8].records[identity & 255]
