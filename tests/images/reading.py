"""How the tests of readers that stream run one, and what must hold whatever it is given."""

from collections.abc import Iterator
from itertools import accumulate, pairwise

from difffs.errors import ImageDamaged
from difffs.images.format import Format, NotThisFormat
from difffs.images.source import Source
from tests.images.plain_assembly import PlainAssembly

MOST_MEMORY = 256 << 20


def _granules(block: int, offset: int, length: int) -> set[tuple[int, int]]:
    """What a piece of memory touches, by the smallest page that there is."""
    return {(block, each) for each in range(offset // 1024, -(-(offset + length) // 1024))}


class TooMuchMemory(Exception):
    """An image tells of more memory than a test wants to hold."""


class BoundedAssembly(PlainAssembly):
    """A PlainAssembly that refuses what it could not hold, and that a page of memory() is
    replaced: the file has it in no other place."""

    def __init__(self) -> None:
        super().__init__()
        self._fixed: set[tuple[int, int]] = set()

    def memory(self, block: int, offset: int, data: memoryview | bytes) -> None:
        super().memory(block, offset, data)
        self._fixed |= _granules(block, offset, len(data))

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        self._check(blocks)
        super().blocks(blocks, memory)

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        self._check(blocks)
        super().more_blocks(blocks, memory)

    def _put(self, block: int, offset: int, data: memoryview | bytes) -> None:
        assert not self._fixed & _granules(block, offset, len(data)), "replaces memory()"
        super()._put(block, offset, data)

    def _check(self, blocks: list[tuple[str, int]]) -> None:
        if sum(length for _name, length in blocks) > MOST_MEMORY:
            raise TooMuchMemory


class SilentAssembly(PlainAssembly):
    """Takes no notice of what is told: for what the reader itself needs of memory and time."""

    def blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        pass

    def more_blocks(self, blocks: list[tuple[str, int]], memory: int) -> None:
        pass

    def _cover(self, data: memoryview | bytes) -> None:
        pass

    def _put(self, block: int, offset: int, data: memoryview | bytes) -> None:
        pass

    def page_records(self, block: int, offset: int, first: int, pages: memoryview | bytes) -> None:
        pass

    def zero_records(self, block: int, offset: int, first: int, count: int) -> None:
        pass


def pieces(data: bytes, *lengths: int) -> Iterator[memoryview]:
    """The data cut into pieces of these lengths, of the last one for all that is left."""
    bounds = list(accumulate(lengths, initial=0))
    view = memoryview(data)
    for start, end in pairwise(bounds):
        if start < len(view):
            yield view[start:end]
    for start in range(bounds[-1], len(view), lengths[-1]):
        yield view[start : start + lengths[-1]]


def read_image(form: Format, data: bytes, *lengths: int) -> PlainAssembly:
    """What an image is made of; it must be rebuilt as it was."""
    assert form.matches(memoryview(data[:65536]))
    assembly = BoundedAssembly()
    source = Source(pieces(data, *(lengths or (len(data) or 1,))))
    form.read(source, assembly)
    assert source.at_end
    assert source.position == len(data)
    assert assembly.file == data
    return assembly


def survives(form: Format, data: bytes, *lengths: int) -> PlainAssembly | None:
    """Reads what may be damaged: it is said to be, or is rebuilt as it was."""
    if not form.matches(memoryview(data[:65536])):
        return None
    try:
        return read_image(form, data, *lengths)
    except (ImageDamaged, NotThisFormat, TooMuchMemory):
        return None
