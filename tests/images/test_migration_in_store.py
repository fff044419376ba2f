"""A live guest's stream in a store: all versions of a page in the file, the last in memory."""

import random

import pytest

from difffs.images import migration
from difffs.images.source import Source
from difffs.stored_image.importing import store_image
from difffs.stored_image.reading import open_image, volume_reader
from tests.images.migration_builder import PAGE, MigrationBuilder
from tests.stores import OpenStore, scratch

RAM = "pc.ram"


def live_stream(seed: int, page_size: int) -> MigrationBuilder:
    """Three rounds, in which pages of all kinds come again."""
    source = random.Random(seed)
    built = MigrationBuilder({RAM: 64 * PAGE, "pc.bios": 32 * PAGE}, page_size=page_size)
    built.configuration(page_bits=page_size.bit_length() - 1)
    built.begin_memory()
    built.list_blocks()
    built.end_records()
    for kind in (2, 2, 3):
        built.part(kind)
        for _ in range(60):
            name = source.choice([RAM, RAM, RAM, "pc.bios"])
            first = source.randrange(len(built.memory[name]) // page_size)
            for number in range(first, min(first + 3, len(built.memory[name]) // page_size)):
                what = source.random()
                if what < 0.5:
                    named = source.random() < 0.2
                    built.page(name, number, source.randbytes(page_size), named=named)
                elif what < 0.8:
                    built.zero(name, number, named=source.random() < 0.2)
                elif what < 0.9:
                    built.zero(name, number, fill=7)
                else:
                    built.compressed(name, number, source.randbytes(16) * (page_size // 16))
        built.end_records()
    built.finish()
    return built


@pytest.mark.parametrize("page_size", [1024, 4096, 8192])
@pytest.mark.parametrize("seed", range(4))
def test_pages_that_come_again(seed: int, page_size: int) -> None:
    built = live_stream(seed, page_size)
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        # Rebuilds the file and compares it.
        stored = store_image(
            opened.engine, Source(iter([bytes(built.out)])), migration.FORMAT, 0o644
        )
        names = opened.store.namespace
        with opened.store.lock:
            names.link(stored.image.number, "/image")
            names.link(stored.memory_volume.number, "/image.ram")
        opened.engine.commit()
        image = open_image(names.lookup("/image"), volume_reader(opened.store))
        for block in image.blocks:
            content = memoryview(bytearray(block["length"]))
            image.read_block(block, 0, content)
            assert bytes(content) == bytes(built.memory[block["name"]])
        assert opened.store.check() == []
