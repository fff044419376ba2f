"""An image of no format in a store: every kind of row, unaligned memory, holes of all sizes."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from random import Random

import xxhash

from difffs.engine import Engine
from difffs.images.assembly import Assembly, Packing
from difffs.page import PAGE_SIZE
from difffs.stored_image.assembly import StoredAssembly
from tests.images.plain_assembly import PlainAssembly
from tests.pages import compressible_page
from tests.stores import OpenStore

_RAM = 256
_VIDEO = 24


@dataclass(frozen=True, slots=True)
class Content:
    """What an image's file and its memory are to hold."""

    file: bytes
    memory: bytes


def tell(assembly: Assembly, seed: int) -> None:
    """Tell the image; another seed is another image of the same shape."""
    random = Random(seed)
    pages = [compressible_page(random) for _ in range(_RAM + _VIDEO)]
    assembly.details(format="invented")
    assembly.blocks([("ram", _RAM * PAGE_SIZE), ("video", _VIDEO * PAGE_SIZE)], 0)
    assembly.literal(random.randbytes(1000))
    assembly.memory(0, 0, b"".join(pages[:20]))
    assembly.zeros(10 * PAGE_SIZE + 123)
    assembly.literal(random.randbytes(200_000))
    assembly.zeros(500)
    assembly.page_records(0, 20 * PAGE_SIZE, 7 * PAGE_SIZE, b"".join(pages[20:60]))
    assembly.zero_records(0, 60 * PAGE_SIZE, 1 << 40, 20)
    assembly.repeated(random.randbytes(300), 50)
    packed = [zlib.compress(page, 1) for page in pages[_RAM:]]
    sizes = [len(each) for each in packed]
    assembly.descriptors(1 << 20, sizes, 1)
    assembly.packed_pages(Packing.ZLIB_1, 1, 0, b"".join(pages[_RAM:]), sizes)
    assembly.memory(0, 80 * PAGE_SIZE, b"".join(pages[80:_RAM]))
    assembly.zeros(5 * PAGE_SIZE + 77)


def store(engine: Engine, path: str, seed: int = 1) -> Content:
    """Store the image as ``path``, its memory as ``path``.ram, and commit."""
    plain = PlainAssembly()
    tell(plain, seed)
    stored = StoredAssembly(engine, path, 0o644, 0, 0)
    tell(stored, seed)
    stored.finish(xxhash.xxh3_128(plain.file).hexdigest())
    names = engine.store.namespace
    with engine.store.lock:
        names.link(stored.image.number, path)
        names.link(stored.memory_volume.number, path + ".ram")
    engine.commit()
    return Content(plain.file, plain.memory_bytes)


def store_in(folder: Path, path: str = "/image", seed: int = 1) -> Content:
    """Store the image in a store that nobody has open, made where there is none."""
    with OpenStore(folder) as opened:
        return store(opened.engine, path, seed)
