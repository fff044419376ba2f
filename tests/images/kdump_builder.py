"""Writes kdump files, from their published structure, as QEMU and makedumpfile write them."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

ZLIB, LZO, SNAPPY, INCOMPLETE, ZSTD = 1, 2, 4, 8, 0x20
MAKEDUMPFILE_HEADER = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)
END = struct.pack(">qq", -1, -1)

Record = tuple[int, bytes]


@dataclass
class Kdump:
    """A kdump file of some pages. ``parts()`` and ``raw()`` after all has been set."""

    pages: dict[int, bytes]
    """By page frame."""
    frames: int = 0
    """Frames that the bitmaps are of; 0: up to the last page."""
    block_size: int = 4096
    words: int = 64
    little: bool = True
    version: int = 6
    signature: bytes = b"KDUMP   "
    machine: bytes = b"x86_64"
    status: int = ZLIB
    pack: Callable[[bytes], tuple[bytes, int]] | None = None
    """A page -> its stored bytes and flags; by default zlib level 1 where that is shorter."""
    share_zeros: bool = True
    """Whether a zero page comes first, and all zero pages lead to it."""
    one_bitmap: bool = False
    split: tuple[int, int] | None = None
    notes: bytes = b"NOTE" * 20
    behind: bytes = b""
    missing: int = 0
    """So many of the last pages have empty descriptors, and no data."""
    timestamp: bytes = b""
    change_descriptor: Callable[[int, list[int]], list[int]] | None = None
    """(number, [offset, size, flags, page flags]) -> what is written."""
    descriptors_at: int = field(init=False, default=0)
    data_at: int = field(init=False, default=0)
    bitmap_at: int = field(init=False, default=0)

    def _pack(self, page: bytes) -> tuple[bytes, int]:
        if self.pack is not None:
            return self.pack(page)
        packed = zlib.compress(page, 1)
        return (packed, ZLIB) if len(packed) < self.block_size else (page, 0)

    @property
    def order(self) -> str:
        return "<" if self.little else ">"

    @property
    def last(self) -> int:
        return self.frames or max(self.pages, default=0) + 1

    def main_header(self, sub_blocks: int, bitmap_blocks: int) -> bytes:
        names = [b"Linux", b"host", b"6.1.0", b"#1", self.machine, b"(none)"]
        head = self.signature + struct.pack(self.order + "I", self.version)
        head += b"".join(name.ljust(65, b"\0") for name in names)
        head = (head + self.timestamp).ljust(424 if self.words == 64 else 412, b"\0")
        numbers = (self.status, self.block_size, sub_blocks, bitmap_blocks, self.last)
        return head + struct.pack(self.order + "10I", *numbers, 0, 0, 0, 0, 1)

    def sub_header(self) -> bytes:
        first, last = self.split or (0, 0)
        split = int(self.split is not None)
        notes = len(self.notes)
        if self.words == 64:
            at = self.block_size + 104
            values = (0, 1, split, first, last, 0, 0, at, notes, 0, 0, first, last, self.last)
            return struct.pack(self.order + "QIIQQQQQQQQQQQ", *values)
        at = self.block_size + 80
        values = (0, 1, split, first, last, 0, 0, at, notes, 0, 0, first, last, self.last)
        return struct.pack(self.order + "IIIIIQIQIQIQQQ", *values)

    def parts(self) -> list[tuple[str, int, list[bytes]]]:
        """(name, offset, pieces) of all that is in the file, in its order."""
        size = self.block_size
        sub = self.sub_header()
        sub_blocks = -(-(len(sub) + len(self.notes)) // size)
        half = -(-self.last // (8 * size)) * size
        bitmap = bytearray(half)
        for frame in self.pages:
            bitmap[frame // 8] |= 1 << frame % 8
        bitmaps = [bytes(bitmap)] * (1 if self.one_bitmap else 2)
        head = self.main_header(sub_blocks, len(bitmaps) * half // size)
        at = (1 + sub_blocks) * size
        self.bitmap_at = at + (len(bitmaps) - 1) * half
        self.descriptors_at = at + len(bitmaps) * half
        first, last = self.split or (0, self.last)
        mine = [frame for frame in sorted(self.pages) if first <= frame < last]
        self.data_at = offset = self.descriptors_at + 24 * len(mine)
        descriptors, data = [], []
        if self.share_zeros:
            data.append(bytes(size))
            offset += size
        for number, frame in enumerate(mine):
            page = self.pages[frame]
            if number >= len(mine) - self.missing:
                words = [0, 0, 0, 0]
            elif self.share_zeros and not any(page):
                words = [self.data_at, size, 0, 0]
            else:
                packed, flags = self._pack(page)
                words = [offset, len(packed), flags, 0]
                offset += len(packed)
                data.append(packed)
            if self.change_descriptor is not None:
                words = self.change_descriptor(number, words)
            descriptors.append(struct.pack(self.order + "QIIQ", *words))
        if self.behind:
            data.append(self.behind)
        return [
            ("header", 0, [head]),
            ("sub header", size, [sub]),
            ("notes", size + len(sub), [self.notes] if self.notes else []),
            ("first bitmap", at, [] if self.one_bitmap else bitmaps[:1]),
            ("bitmap", self.bitmap_at, bitmaps[-1:]),
            ("descriptors", self.descriptors_at, descriptors),
            ("data", self.data_at, data),
        ]

    def raw(self) -> bytes:
        """The file."""
        out = bytearray()
        for _name, offset, pieces in self.parts():
            content = b"".join(pieces)
            if content:
                out += bytes(max(0, offset - len(out)))
                out[offset : offset + len(content)] = content
        return bytes(out)

    def memory(self, block: int = 0) -> dict[int, bytes]:
        """What the reader should find: pages that are there, by frame."""
        first, last = self.split or (0, self.last)
        mine = [frame for frame in sorted(self.pages) if first <= frame < last]
        return {frame: self.pages[frame] for frame in mine[: len(mine) - self.missing]}


def _cached(offset: int, pieces: list[bytes], size: int) -> Iterator[tuple[int, Record]]:
    """QEMU's cache: (number of pieces that have come when it is written, record)."""
    held = b""
    for number, piece in enumerate(pieces):
        if held and len(held) + len(piece) > size:
            yield number, (offset, held)
            offset += len(held)
            held = b""
        held += piece
    if held:
        yield len(pieces) + 1, (offset, held)


def qemu_records(dump: Kdump) -> list[Record]:
    """The records as QEMU writes them: bitmaps block by block, in turns; descriptors and data out
    of a cache of four blocks each, data first."""
    parts = {name: (offset, pieces) for name, offset, pieces in dump.parts()}
    records = [
        (parts[name][0], piece)
        for name in ("header", "sub header", "notes")
        for piece in parts[name][1]
    ]
    size = dump.block_size
    bitmaps = [(parts[name][0], b"".join(parts[name][1])) for name in ("first bitmap", "bitmap")]
    for at in range(0, len(bitmaps[1][1]), size):
        records += [(start + at, bits[at : at + size]) for start, bits in bitmaps if bits]
    begin, descriptors = parts["descriptors"]
    own = [-1] if dump.share_zeros else []
    for number, each in enumerate(descriptors):
        offset = struct.unpack_from(dump.order + "Q", each)[0]
        if offset and not (dump.share_zeros and offset == dump.data_at):
            own.append(number)
    own += [len(descriptors) + 1] * (len(parts["data"][1]) - len(own))
    timed = [(number, 1, record) for number, record in _cached(begin, descriptors, 4 * size)]
    for number, record in _cached(dump.data_at, parts["data"][1], 4 * size):
        timed.append((own[number] if number < len(own) else len(descriptors) + 2, 0, record))
    records += [record for _number, _kind, record in sorted(timed, key=lambda each: each[:2])]
    return records


def makedumpfile_records(dump: Kdump, *, cycle: int = 0, cache: int = 1 << 16) -> list[Record]:
    """The records as makedumpfile writes them: the notes before the sub header; descriptors, then
    data, when one of the caches is full; with a `cycle` (a multiple of 8), the bitmap of so many
    frames before their pages."""
    parts = {name: (offset, pieces) for name, offset, pieces in dump.parts()}
    records = [
        (parts[name][0], piece)
        for name in ("header", "notes", "sub header", "first bitmap")
        for piece in parts[name][1]
    ]
    bits = b"".join(parts["bitmap"][1])
    step = cycle // 8 or len(bits)
    frames = sorted(dump.memory())
    caches: dict[str, tuple[int, bytes]] = {
        "descriptors": (parts["descriptors"][0], b""),
        "data": (parts["data"][0], b""),
    }

    def flush() -> None:
        for name, (offset, held) in caches.items():
            if held:
                records.append((offset, held))
            caches[name] = (offset + len(held), b"")

    def put(name: str, piece: bytes) -> None:
        offset, held = caches[name]
        caches[name] = (offset, held + piece)

    stored = list(parts["data"][1])
    if dump.share_zeros:
        put("data", stored.pop(0))
    descriptors = list(parts["descriptors"][1])
    for at in range(0, len(bits), step):
        if 8 * at < dump.last:
            piece = bits[at : at + min(step, -(-dump.last // 8) - at)]
            records.append((parts["bitmap"][0] + at, piece))
        while frames and frames[0] < 8 * (at + step):
            frames.pop(0)
            each = descriptors.pop(0)
            put("descriptors", each)
            if struct.unpack_from(dump.order + "Q", each)[0] != dump.data_at or not (
                dump.share_zeros
            ):
                put("data", stored.pop(0))
            if any(len(held) > cache for _offset, held in caches.values()):
                flush()
    for piece in stored:
        put("data", piece)
    flush()
    return records


def flattened(records: list[Record], *, end: bool = True) -> bytes:
    """The flattened form of these records."""
    out = [MAKEDUMPFILE_HEADER.ljust(4096, b"\0")]
    for offset, data in records:
        out += [struct.pack(">qq", offset, len(data)), data]
    return b"".join(out) + (END if end else b"")
