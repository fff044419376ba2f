"""Images of any format that a reader accepts, taken into a store and out of it again."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from difffs.engine import Engine
from difffs.errors import ImageDamaged, UsageError
from difffs.images.assembly import Assembly, Block, Packing
from difffs.images.source import Source
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.stored_image.importing import remove_parts, store_image
from difffs.stored_image.reading import open_image, volume_reader
from fuzzing.oracle import Violation
from fuzzing.outcomes import Outcome, Result
from fuzzing.short_form import expand
from fuzzing.targets import ReaderTarget

SCRATCH = "DIFFFS_FUZZ_SCRATCH"
"""Environment: the folder in which the store lies, which somebody removes."""
_MOST_REBUILT = "cannot be rebuilt"


class MemoryTold:
    """An assembly that keeps what was told of memory, the last of which counts."""

    def __init__(self) -> None:
        self._told: list[tuple[Block, int, int, bytes]] = []
        """(block, start, end, content, none for zeros)"""

    def _put(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._told.append((block, offset, offset + len(data), bytes(data)))

    def memory(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._put(block, offset, data)

    def memory_apart(self, block: Block, offset: int, data: memoryview | bytes) -> None:
        self._put(block, offset, data)

    def page_records(
        self, block: Block, offset: int, _first: int, pages: memoryview | bytes
    ) -> None:
        self._put(block, offset, pages)

    def packed_pages(
        self,
        _packing: Packing,
        block: Block,
        offset: int,
        pages: memoryview | bytes,
        _sizes: list[int],
    ) -> None:
        self._put(block, offset, pages)

    def zero_records(self, block: Block, offset: int, _first: int, count: int) -> None:
        self.zero_memory(block, offset, count * PAGE_SIZE)

    def zero_memory(self, block: Block, offset: int, length: int) -> None:
        self._told.append((block, offset, offset + length, b""))

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_values, **_facts: None

    def pages(self) -> set[tuple[Block, int]]:
        """(block, page) of the first and last few pages of each piece."""
        found = set()
        for block, start, end, _content in self._told:
            if start < end:
                first, last = start // PAGE_SIZE, (end - 1) // PAGE_SIZE
                found |= {(block, page) for page in range(first, min(first + 4, last + 1))}
                found |= {(block, page) for page in range(max(first, last - 3), last + 1)}
        return found

    def page(self, block: Block, page: int) -> bytes:
        """What a page holds in the end."""
        begin, out = page * PAGE_SIZE, bytearray(PAGE_SIZE)
        for other, start, end, content in self._told:
            low, high = max(start, begin), min(end, begin + PAGE_SIZE)
            if other == block and low < high:
                part = content[low - start : high - start] if content else bytes(high - low)
                out[low - begin : high - begin] = part
        return bytes(out)


@dataclass
class StoreTarget:
    """The first byte of an input chooses the reader, the rest is an image in the short form."""

    readers: list[ReaderTarget]
    name: str = "store"
    weight: float = 0.05
    _engine: Engine | None = field(default=None, repr=False)

    def seeds(self) -> list[bytes]:
        """Those of all readers."""
        return [
            bytes([number]) + data
            for number, reader in enumerate(self.readers)
            for data in reader.seeds()
        ]

    def prepare(self) -> None:
        """Makes the store."""
        folder = tempfile.mkdtemp(prefix="store-", dir=os.environ.get(SCRATCH))
        self._engine = Engine(Store.open_or_create(Path(folder) / "store"), 1)

    def close(self) -> None:
        """Closes it."""
        if self._engine is not None:
            self._engine.close()
            self._engine.store.close()
            self._engine = None

    def run(self, data: bytes) -> Result:
        """Stores the image; its bytes (by store_image) and its memory must be what was told."""
        if not data:
            return Outcome.NOT_ITS, ""
        reader = self.readers[data[0] % len(self.readers)]
        result = reader.run(data[1:])
        if result[0] is not Outcome.ACCEPTED:
            return result
        image = expand(data[1:], reader.longest)
        return self._store(reader, image), f"{reader.name} {result[1]}"

    def _store(self, reader: ReaderTarget, image: bytes) -> Outcome:
        engine = self._engine
        assert engine is not None

        def read_at(offset: int, count: int) -> bytes:
            return image[offset : offset + count]

        source = Source(iter([image] if image else []), size=len(image), read_at=read_at)
        try:
            assembly = store_image(engine, source, reader.form, 0o600)
        except (ImageDamaged, UsageError) as error:
            # What a store has no room for, a reader may accept.
            if _MOST_REBUILT in str(error):
                raise Violation(str(error)) from error
            return Outcome.ELSE
        stored = open_image(assembly.image, volume_reader(engine.store))
        told = MemoryTold()
        again = Source(iter([image] if image else []), size=len(image), read_at=read_at)
        reader.form.read(again, cast(Assembly, told))
        for block, page in told.pages():
            place = stored.blocks[block]
            out = memoryview(bytearray(min(PAGE_SIZE, place["length"] - page * PAGE_SIZE)))
            stored.read_block(place, page * PAGE_SIZE, out)
            if out != told.page(block, page)[: len(out)]:
                raise Violation(f"page {page} of block {block} is another in the store")
        remove_parts(engine.store, assembly)
        while engine.store.remove_some():
            pass
        return Outcome.ACCEPTED
