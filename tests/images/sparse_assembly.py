"""The oracle of assemblies for memory that is mostly holes: addresses up to terabytes."""

from collections.abc import Iterator

import xxhash

from difffs.errors import ImageDamaged
from difffs.images.assembly import Block
from difffs.images.format import Format, NotThisFormat
from difffs.images.source import Source
from tests.images.plain_assembly import PlainAssembly


class SparseAssembly(PlainAssembly):
    """A PlainAssembly that keeps what it was given of memory, not the memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []
        self.pieces: list[list[tuple[int, bytes]]] = []
        """(offset, bytes) of each block, in the order they were given."""

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        super().blocks([(name, 0) for name, _length in blocks], memory)
        self.lengths = [length for _name, length in blocks]
        self.pieces = [[] for _ in blocks]

    def grow(self, block: Block, length: int) -> None:
        assert length >= self.lengths[block], "blocks never shrink"
        self.lengths[block] = length

    def content(self, offset: int, length: int) -> bytes:
        """The guest's memory from `offset` on."""
        out = bytearray(length)
        for place, data in self.pieces[self.main]:
            low, high = max(place, offset), min(place + len(data), offset + length)
            if low < high:
                out[low - offset : high - offset] = data[low - place : high - place]
        return bytes(out)

    def _put(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        assert offset >= 0
        assert offset + len(data) <= self.lengths[block]
        self.pieces[block].append((offset, bytes(data)))


def chunks(data: bytes, size: int) -> Iterator[memoryview]:
    """The bytes in pieces of `size`."""
    return (memoryview(data)[at : at + size] for at in range(0, len(data), size))


def assembled(
    image: Format, data: bytes, *, chunk: int = 1 << 20, seekable: bool = False
) -> SparseAssembly:
    """What a reader makes of an image that comes in pieces of `chunk` bytes."""
    read_at = (lambda offset, count: data[offset : offset + count]) if seekable else None
    source = Source(chunks(data, chunk), read_at=read_at)
    assembly = SparseAssembly()
    image.read(source, assembly)
    assert source.at_end
    assert source.digest == xxhash.xxh3_128_hexdigest(data)
    return assembly


def survives(image: Format, data: bytes, *, seekable: bool = False) -> SparseAssembly | None:
    """Reads what may be damaged: either that is said, or the file is the same
    (or its unpacked form is what there is)."""
    if not image.matches(memoryview(data)[:65536]):
        return None
    try:
        assembly = assembled(image, data, seekable=seekable)
    except (ImageDamaged, NotThisFormat):
        return None
    assert assembly.packed_as is not None or assembly.file == data
    return assembly
