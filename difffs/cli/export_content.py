"""What an export writes: a volume, an image in its own format, its memory, or one block of that."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import xxhash

from difffs._kernels import TABLE_ENTRIES
from difffs.errors import CorruptStore, EnvironmentProblem, UsageError
from difffs.images.composed import Readable
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.store.page_tables import HOLE, ZERO
from difffs.stored_image.reading import StoredImage, open_image, volume_reader

_BATCH_PAGES = 256
_BATCH = _BATCH_PAGES * PAGE_SIZE
_ZERO_PAGE = bytes(PAGE_SIZE)

Pieces = Iterator[tuple[int, memoryview]]
"""(offset, bytes) in order; what lies between is zeros. Valid until the next step."""


_Pack = Callable[[Iterator[memoryview]], Iterator[bytes]]
"""Compresses a stream."""


class Form(StrEnum):
    """How what is written is related to what was imported."""

    ORIGINAL = "original"
    """The same bytes."""
    RAW = "raw"
    """The guest's memory, or a block of it."""
    UNPACKED = "unpacked"
    """The image without the compression that it had."""
    RECOMPRESSED = "recompressed"
    """The image compressed as it was, to other bytes."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to be written."""

    form: Form
    size: int | None
    """None: known at the end only."""
    pieces: Callable[[], Pieces]
    digest: str | None = None
    """Of compressed ones, which may turn out to be others: those they should have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to write: the first of the contents that has the digest that it should have."""

    inode: Inode
    work: int
    """Bytes that the contents are made from, for the progress."""
    contents: list[Content]


def content_of(
    store: Store, inode: Inode, *, raw: bool, block: str | None, packing: Form | None
) -> Wanted:
    """What there is to write of a volume or image. ``UsageError`` when it has no such thing."""
    if not inode.is_image:
        if raw or block is not None or packing is not None:
            raise UsageError(
                "the volume is plain: there is nothing else of it than its bytes; export it"
                " without an option"
            )
        return _whole(inode, Form.ORIGINAL, inode.size, lambda: _volume_pieces(store, inode))
    image = open_image(inode, volume_reader(store))
    if raw:
        memory = store.namespace.get(inode.memory)
        return _whole(inode, Form.RAW, memory.size, lambda: _volume_pieces(store, memory))
    if block is not None:
        return _block(image, block)
    return _image(image, packing)


def _whole(inode: Inode, form: Form, size: int, pieces: Callable[[], Pieces]) -> Wanted:
    return Wanted(inode, size, [Content(form, size, pieces)])


def _block(image: StoredImage, name: str) -> Wanted:
    for each in image.blocks:
        if each["name"] == name:
            block = each
            break
    else:
        known = ", ".join(str(each["name"]) for each in image.blocks)
        raise UsageError(f"the image has no block {name!r}; it has {known}")

    def read(offset: int, out: memoryview) -> None:
        image.read_block(block, offset, out)

    size = int(block["length"])
    return _whole(image.inode, Form.RAW, size, lambda: _sparse(_in_batches(read, size)))


def _image(image: StoredImage, packing: Form | None) -> Wanted:
    size = image.file().size
    packed = image.packed
    form = Form.ORIGINAL if packed is None else Form.UNPACKED
    plain = Content(form, size, lambda: _sparse(_checked(image)))
    if packed is None or packing is Form.UNPACKED:
        if packed is None and packing is not None:
            raise UsageError("the image was not compressed: export it without an option")
        return Wanted(image.inode, size, [plain])
    contents = _packed_contents(image, packed)
    if packing is Form.RECOMPRESSED:
        if not contents:
            raise EnvironmentProblem(
                f"nothing here compresses by {packed['compression']}: install it (apt install"
                f" {packed['compression']}), or export --unpacked"
            )
        last = contents[-1]
        contents.append(replace(last, form=Form.RECOMPRESSED, size=None, digest=None))
    else:
        contents.append(plain)
    return Wanted(image.inode, size, contents)


def _packed_contents(image: StoredImage, packed: dict[str, Any]) -> list[Content]:
    """The ways to compress the image again, each of which may give its bytes."""
    from difffs.images import avml
    from difffs.images.repacking import repackings

    def content(pack: _Pack) -> Content:
        return Content(
            Form.ORIGINAL,
            int(packed["size"]),
            lambda: _packed_pieces(image, packed, pack),
            str(packed["digest"]),
        )

    compression = str(packed["compression"])
    if compression == avml.COMPRESSION:
        return [content(avml.packed_form)]
    ways = repackings(compression, bytes.fromhex(packed["like"]))
    return [content(way.pieces) for way in ways]


def _packed_pieces(
    image: StoredImage,
    packed: dict[str, Any],
    pack: _Pack,
) -> Pieces:
    file, start = image.file(), int(packed["start"])
    head = bytearray(start)
    file.read_into(0, memoryview(head))
    for offset, data in packed["replaced"]:
        replaced = bytes.fromhex(data)
        head[offset : offset + len(replaced)] = replaced
    offset = 0
    if head:
        yield 0, memoryview(head)
        offset = start
    rest = (data for _offset, data in _read_on(file, start))
    for piece in pack(rest):
        yield offset, memoryview(piece)
        offset += len(piece)


def _read_on(file: Readable, offset: int) -> Pieces:
    buffer = memoryview(bytearray(_BATCH))
    while length := file.read_into(offset, buffer):
        yield offset, buffer[:length]
        offset += length


def _checked(image: StoredImage) -> Pieces:
    """The file's bytes; ``CorruptStore`` at the end if they are not those that were imported."""
    digest = xxhash.xxh3_128()
    for offset, data in _read_on(image.file(), 0):
        digest.update(data)
        yield offset, data
    if digest.hexdigest() != image.digest:
        raise CorruptStore(
            f"the image {image.inode.name} cannot be rebuilt as it was imported: run `difffs"
            " check`; export --raw gives its guest's memory"
        )


def _in_batches(read: Callable[[int, memoryview], None], size: int) -> Pieces:
    buffer = memoryview(bytearray(_BATCH))
    for offset in range(0, size, _BATCH):
        out = buffer[: min(_BATCH, size - offset)]
        read(offset, out)
        yield offset, out


def _sparse(pieces: Pieces) -> Pieces:
    """The pieces without their pages of zeros."""
    for offset, data in pieces:
        start = at = 0
        while at < len(data):
            # As bytes: views are compared item by item.
            if bytes(data[at : at + PAGE_SIZE]) == _ZERO_PAGE:
                if at > start:
                    yield offset + start, data[start:at]
                start = at + PAGE_SIZE
            at += PAGE_SIZE
        if start < len(data):
            yield offset + start, data[start:]


def _volume_pieces(store: Store, volume: Inode) -> Pieces:
    """Iterate over all of a volume that is not zeros, cut off at its size."""
    buffer = bytearray(_BATCH)
    end = -(-volume.size // PAGE_SIZE)
    for chunk in store.chunks_of(volume.number, 0, -(-end // TABLE_ENTRIES)):
        first = chunk * TABLE_ENTRIES
        ids = store.lookup(volume.number, first, max(0, min(TABLE_ENTRIES, end - first)))
        for start, count in _runs(ids):
            out = memoryview(buffer)[: count * PAGE_SIZE]
            store.read_pages(volume.number, first + start, count, out)
            offset = (first + start) * PAGE_SIZE
            yield offset, out[: volume.size - offset]


def _runs(ids: "array[int]") -> Iterator[tuple[int, int]]:
    """Iterate over (start, count) of pages that are neither holes nor zeros, in batches."""
    start = 0
    while start < len(ids):
        if ids[start] in (HOLE, ZERO):
            start += 1
            continue
        end = start + 1
        while end < len(ids) and end - start < _BATCH_PAGES and ids[end] not in (HOLE, ZERO):
            end += 1
        yield start, end - start
        start = end
