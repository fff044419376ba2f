"""What a store keeps of an image, damaged: it says so, or gives other bytes, within bounds."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from difffs.errors import CorruptStore, FormatTooNew
from difffs.images.composed import ComposedFile
from difffs.images.layout import Kind, Layout, Row, Volume, pack_row
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.store.inode import Inode
from difffs.stored_image.head import pack_head
from difffs.stored_image.reading import StoredImage, open_image
from fuzzing.oracle import Violation
from fuzzing.outcomes import Outcome, Result
from fuzzing.short_form import LONGEST, PAGES, expand, shorten

_MOST_READ = 16 << 20
"""Bytes of a volume that are read at once: the longest description."""
_READ = 20_000
"""Bytes of a file that are read at once."""
_INODE = Inode(3, 0o100600, 0, 0, 0, 0, 0, 0, 1, 1, "image", "", 1, 2)


def _read_part(content: bytes, offset: int, out: memoryview) -> None:
    """A volume that begins with these bytes, and goes on with zeros."""
    if offset < 0 or len(out) > _MOST_READ:
        raise Violation(f"reads {len(out):,} bytes at {offset:,} of a volume")
    if offset + len(out) > MAXIMUM_VOLUME_SIZE:
        raise CorruptStore("there is no such place in a volume")
    part = content[offset : offset + len(out)]
    out[:] = part.ljust(len(out), b"\0")


def _read_file(file: ComposedFile) -> None:
    """Reads here and there; what is read at once and in parts is the same."""
    places = {0, PAGE_SIZE - 5, 4104, 12_345, file.size // 2, max(0, file.size - 5000)}
    failures = 0
    for place in places:
        whole = memoryview(bytearray(_READ))
        try:
            file.hole(place)
            count = file.read_into(place, whole)
            if count != max(0, min(_READ, file.size - place)):
                raise Violation(f"reads {count:,} bytes at {place:,} of {file.size:,}")
            part = memoryview(bytearray(777))
            some = file.read_into(place + 99, part)
        except CorruptStore:
            failures += 1
            continue
        if part[:some] != whole[99 : 99 + some]:
            raise Violation(f"reads other bytes in parts at {place:,}")
    if failures:
        raise CorruptStore(f"{failures} of {len(places)} reads failed")


def _look_at(image: StoredImage) -> None:
    """Asks for all that an export asks for."""
    json.dumps([image.head["details"], image.digest])
    for block in image.blocks:
        out = memoryview(bytearray(min(block["length"], 5000)))
        image.read_block(block, 0, out)
        image.read_block(block, block["length"] - len(out), out)
    file = image.file()
    if image.packed is not None:
        head = bytearray(image.packed["start"])
        for offset, data in image.packed["replaced"]:
            replaced = bytes.fromhex(data)
            head[offset : offset + len(replaced)] = replaced
        if len(head) != image.packed["start"]:
            raise Violation("what is replaced lies behind what is not compressed")
    _read_file(file)


@dataclass(frozen=True, slots=True)
class LayoutTarget:
    """Rows: two layouts of (size, rows, first page, pages), each 8 bytes, then the skeleton."""

    name: str = "layout"
    weight: float = 0.6

    _head = struct.Struct("<8Q")

    def run(self, data: bytes) -> Result:
        """Reads the file that the rows make up."""
        image = expand(data)
        if len(image) < 64:
            return Outcome.NOT_ITS, ""
        numbers = self._head.unpack_from(image)
        if max(numbers) >= 1 << 63:
            return Outcome.NOT_ITS, ""  # no description has them
        content = image[64:]

        def skeleton(offset: int, out: memoryview) -> None:
            _read_part(content, offset, out)

        def memory(offset: int, out: memoryview) -> None:
            _read_part(b"memory " * 5000, offset, out)

        def layout(size: int, rows: int, first: int, pages: int) -> Layout:
            return Layout(rows, size, [(first, pages)], skeleton)

        try:
            inner = ComposedFile(layout(*numbers[:4]), skeleton, memory)
            _read_file(inner)
            if numbers[4]:
                _read_file(ComposedFile(layout(*numbers[4:]), skeleton, memory, inner))
        except CorruptStore as error:
            return Outcome.DAMAGED, str(error)
        return Outcome.ACCEPTED, ""

    def seeds(self) -> list[bytes]:
        """A row of each kind, with and without a container."""
        packed = pack_sizes()
        rows = [
            (Kind.COPY, Volume.MEMORY, 100, 5000, 0, 5000),
            (Kind.ZEROS, 0, 0, 9000, 0, 9000),
            (Kind.PAGE_RECORDS, Volume.MEMORY, PAGE_SIZE, 0x20, 3, 3 * 4104),
            (Kind.ZERO_RECORDS, 0, 0, 0x22, 9, 81),
            (Kind.PACKED_ZLIB_1, Volume.MEMORY, 0, 2 * PAGE_SIZE, len(packed) // 2, _total(packed)),
            (Kind.DESCRIPTORS, 1, 5000, 2 * PAGE_SIZE, len(packed) // 2, 24 * (len(packed) // 2)),
            (Kind.REPEATED, 0, 2 * PAGE_SIZE, 10, 50, 500),
            (Kind.COPY, Volume.SKELETON, 2 * PAGE_SIZE, 300, 0, 300),
        ]
        inner, size = _rows(rows)
        outer, outer_size = _rows(
            [
                (Kind.INNER, 0, 5, 7000, 0, 7000),
                (Kind.INNER_RECORD, 0, 100, 9000, 0, 9016),
                (Kind.ZEROS, 0, 0, 100, 0, 100),
            ]
        )
        skeleton = inner.ljust(PAGE_SIZE, b"\0") + outer.ljust(PAGE_SIZE, b"\0") + packed
        return [
            shorten(self._head.pack(size, len(rows), 0, 1, 0, 0, 0, 0) + skeleton),
            shorten(self._head.pack(size, len(rows), 0, 1, outer_size, 3, 1, 1) + skeleton),
        ]


def pack_sizes() -> bytes:
    """Sizes of packed pages of the memory that the layouts' target has."""
    from difffs.images.layout import packed_zlib

    memory = (b"memory " * 5000)[: 2 * PAGE_SIZE]
    sizes = [len(packed_zlib(memory[at : at + PAGE_SIZE])) for at in (0, PAGE_SIZE)]
    return struct.pack("<2H", *sizes)


def _total(sizes: bytes) -> int:
    return sum(struct.unpack(f"<{len(sizes) // 2}H", sizes))


def _rows(rows: Sequence[tuple[int, int, int, int, int, int]]) -> tuple[bytes, int]:
    """The rows' bytes, and the size of what they make up."""
    out, position = b"", 0
    for kind, volume, source, second, times, length in rows:
        out += pack_row(Row(position, kind, volume, source, second, times))
        position += length
    return out, position


@dataclass(frozen=True, slots=True)
class HeadTarget:
    """A skeleton: its head, and the rows that follow."""

    name: str = "head"
    weight: float = 0.5

    def run(self, data: bytes) -> Result:
        """Opens the image and looks at all of it."""
        content = expand(data, LONGEST)

        def read(number: int, offset: int, out: memoryview) -> None:
            _read_part(content if number == 1 else PAGES[0], offset, out)

        try:
            image = open_image(_INODE, read)
            _look_at(image)
        except (CorruptStore, FormatTooNew) as error:
            return Outcome.DAMAGED, str(error)
        return Outcome.ACCEPTED, f"{image.packed is None} {len(image.blocks)}"

    def seeds(self) -> list[bytes]:
        """Heads as a store writes them."""
        rows, size = _rows(
            [
                (Kind.COPY, Volume.MEMORY, 0, 4096, 0, 4096),
                (Kind.ZEROS, 0, 0, 500, 0, 500),
                (Kind.COPY, Volume.SKELETON, 16, 100, 0, 100),
            ]
        )
        outer, outer_size = _rows([(Kind.INNER, 0, 0, size, 0, size)])
        layout = {"size": size, "rows": 3, "extents": [[1, 1]]}
        description = {
            "version": 1,
            "digest": "0" * 32,
            "details": {"format": "lime", "version": 1},
            "notes": ["a note"],
            "blocks": [
                {"name": "memory", "length": 4096, "volume": "memory", "offset": 0},
                {"name": "vga", "length": 4096, "volume": "skeleton", "offset": 4096},
            ],
            "memory": 0,
            "layout": layout,
            "container": None,
            "packed": None,
        }
        packed = {
            "compression": "gzip",
            "start": 100,
            "replaced": [[28, "01000000"]],
            "like": "1f8b08000000000000ff",
            "digest": "1" * 32,
            "size": 900,
        }
        contained = {"size": outer_size, "rows": 1, "extents": [[2, 1]]}
        found = []
        for changed in ({}, {"packed": packed}, {"container": contained}):
            text = json.dumps(description | changed, separators=(",", ":")).encode()
            pages = rows.ljust(PAGE_SIZE, b"\0") + outer.ljust(PAGE_SIZE, b"\0")
            found.append(shorten(pack_head(text, 0) + pages))
            found.append(shorten(pack_head(text, 3) + pages + text))
        return found
