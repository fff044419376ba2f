"""The oracle of assemblies: rebuilds a file and its memory from a reader's calls, in memory."""

import struct
import zlib

from difffs.images.assembly import PAGE_SIZE, Block, Packing


class PlainAssembly:
    """Answers a reader's calls with plain bytes; ``file`` and ``contents`` are the results."""

    def __init__(self) -> None:
        self.facts: dict[str, object] = {}
        self.names: list[str] = []
        self.contents: list[bytearray] = []
        self.main = -1
        self.notes: list[str] = []
        self.literal_bytes = 0
        """Bytes of the file that are kept as they are, beside the memory."""
        self.given: list[set[int]] = []
        """The pages of each block that something was said about."""
        self.packed_as: tuple[str, int, list[tuple[int, bytes]], bytes] | None = None
        self._file = bytearray()
        self._covered = bytearray()
        """A byte 1 for each byte of the file that a call has covered."""
        self._position = 0
        self._contained = False
        self._outer: list[tuple[str, int, int, bytes]] = []

    @property
    def memory_bytes(self) -> bytes:
        """The guest's memory."""
        return bytes(self.contents[self.main])

    @property
    def file(self) -> bytes:
        """The whole file, rebuilt."""
        if not self._contained:
            return bytes(self._file)
        out = bytearray()
        for kind, offset, length, data in self._outer:
            if kind == "record":
                out += struct.pack(">QQ", offset, length)
            if kind != "literal":
                end = offset + length
                assert self._covered.count(1, offset, end) == length, "refers to what is not there"
            out += self._file[offset : offset + length] if kind != "literal" else data
        return bytes(out)

    def details(self, **facts: object) -> None:
        self.facts.update(facts)

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        assert self.main < 0, "blocks are told once"
        assert 0 <= memory < len(blocks)
        self.names = [name for name, _length in blocks]
        self.contents = [bytearray(length) for _name, length in blocks]
        self.given = [set() for _ in blocks]
        self.main = memory

    def grow(self, block: Block, length: int) -> None:
        content = self.contents[block]
        assert length >= len(content), "blocks never shrink"
        content.extend(bytes(length - len(content)))

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        assert self.main >= 0, "the first blocks are told by blocks()"
        self.names += [name for name, _length in blocks]
        self.contents += [bytearray(length) for _name, length in blocks]
        self.given += [set() for _ in blocks]
        assert 0 <= memory < len(self.names)
        self.main = memory

    def literal(self, data: memoryview | bytes) -> None:
        self.literal_bytes += len(data)
        self._cover(data)

    def zeros(self, count: int) -> None:
        assert count >= 0
        self._cover(bytes(count))

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._put(block, offset, data)
        self._cover(data)

    def page_records(
        self, block: Block, offset: int, first: int, pages: memoryview | bytes
    ) -> None:
        assert offset % PAGE_SIZE == 0
        assert len(pages) % PAGE_SIZE == 0
        assert len(pages) > 0
        self._put(block, offset, pages)
        for start in range(0, len(pages), PAGE_SIZE):
            self._cover(struct.pack(">Q", first + start) + pages[start : start + PAGE_SIZE])

    def zero_records(self, block: Block, offset: int, first: int, count: int) -> None:
        assert offset % PAGE_SIZE == 0
        assert count > 0
        self._put(block, offset, bytes(count * PAGE_SIZE))
        for index in range(count):
            self._cover(struct.pack(">QB", first + index * PAGE_SIZE, 0))

    def packed_pages(
        self,
        packing: Packing,
        block: Block,
        offset: int,
        pages: memoryview | bytes,
        sizes: list[int],
    ) -> None:
        assert packing is Packing.ZLIB_1
        assert offset % PAGE_SIZE == 0
        assert len(pages) == len(sizes) * PAGE_SIZE
        self._put(block, offset, pages)
        for index, size in enumerate(sizes):
            packed = zlib.compress(pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE], 1)
            assert len(packed) == size
            self._cover(packed)

    def descriptors(self, offsets_from: int, sizes: list[int], flags: int) -> None:
        for size in sizes:
            self._cover(struct.pack("<QIIQ", offsets_from, size, flags, 0))
            offsets_from += size

    def repeated(self, data: bytes, count: int) -> None:
        assert 0 < len(data) <= PAGE_SIZE
        self._cover(data * count)

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._put(block, offset, data)

    def zero_memory(self, block: Block, offset: int, length: int) -> None:
        assert offset % PAGE_SIZE == 0
        assert length % PAGE_SIZE == 0
        self._put(block, offset, bytes(length))

    def unusual(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def packed(
        self, compression: str, start: int, replaced: list[tuple[int, bytes]], like: bytes = b""
    ) -> None:
        self.packed_as = (compression, start, replaced, like)

    def begin_container(self) -> None:
        assert not self._file
        self._contained = True

    def at(self, position: int) -> None:
        assert self._contained
        assert position >= 0
        self._position = position

    def container_literal(self, data: memoryview | bytes) -> None:
        self.literal_bytes += len(data)
        self._outer.append(("literal", 0, 0, bytes(data)))

    def container_inner(self, offset: int, length: int) -> None:
        self._outer.append(("inner", offset, length, b""))

    def container_record(self, offset: int, length: int) -> None:
        self._outer.append(("record", offset, length, b""))

    def container_zeros(self, count: int) -> None:
        self._outer.append(("literal", 0, 0, bytes(count)))

    def _cover(self, data: memoryview | bytes) -> None:
        start = self._position
        end = start + len(data)
        missing = end - len(self._file)
        if missing > 0:
            self._file += bytes(missing)
            self._covered += bytes(missing)
        assert self._covered.find(1, start, end) < 0, "covers bytes twice"
        self._file[start:end] = data
        self._covered[start:end] = b"\1" * len(data)
        self._position = end

    def _put(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        content = self.contents[block]
        assert offset >= 0
        assert offset + len(data) <= len(content)
        content[offset : offset + len(data)] = data
        self.given[block].update(range(offset // PAGE_SIZE, -(-(offset + len(data)) // PAGE_SIZE)))
