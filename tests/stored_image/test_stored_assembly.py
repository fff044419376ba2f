"""A store's assembly against its plain twin: same file, same memory, whatever a reader tells."""

import tracemalloc
import zlib
from pathlib import Path
from random import Random

import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.images.assembly import Assembly, Packing
from difffs.page import PAGE_SIZE
from difffs.store import Store
from difffs.stored_image.assembly import StoredAssembly
from difffs.stored_image.reading import StoredImage, open_image, volume_reader
from tests.images.plain_assembly import PlainAssembly
from tests.pages import compressible_page
from tests.stores import OpenStore, scratch

_BLOCKS = [("ram", 40 * PAGE_SIZE), ("video", 9 * PAGE_SIZE), ("bios", 5 * PAGE_SIZE)]

_pages = [compressible_page(Random(number)) for number in range(6)] + [bytes(PAGE_SIZE)]


def _some(pages: list[int]) -> bytes:
    return b"".join(_pages[number] for number in pages)


_contents = st.lists(st.integers(0, len(_pages) - 1), min_size=1, max_size=12)


class _Told:
    """Tells both assemblies the same."""

    def __init__(self, stored: StoredAssembly) -> None:
        self.plain = PlainAssembly()
        self.both: tuple[Assembly, Assembly] = (stored, self.plain)
        for each in self.both:
            each.details(format="invented")
            each.blocks(list(_BLOCKS), 0)

    def tell(self, data: st.DataObject, kinds: list[str]) -> None:
        kind = data.draw(st.sampled_from(kinds))
        block = data.draw(st.integers(0, len(_BLOCKS) - 1))
        length = _BLOCKS[block][1] // PAGE_SIZE
        pages = data.draw(_contents)[:length]
        first = data.draw(st.integers(0, length - len(pages)))
        header = data.draw(st.integers(0, 1 << 62))
        size = data.draw(st.sampled_from([1, 7, 4096, 5000, 70_000, 200_000]))
        for each in self.both:
            if kind == "literal":
                each.literal(Random(size).randbytes(size))
            elif kind == "zeros":
                each.zeros(size)
            elif kind == "records":
                each.page_records(block, first * PAGE_SIZE, header, _some(pages))
            elif kind == "zero records":
                each.zero_records(block, first * PAGE_SIZE, header, len(pages))
            elif kind == "apart":
                each.memory_apart(block, first * PAGE_SIZE, _some(pages))
            elif kind == "zero memory":
                each.zero_memory(block, first * PAGE_SIZE, len(pages) * PAGE_SIZE)
            elif kind == "repeated":
                each.repeated(Random(size).randbytes(min(size, 4096)), 5)
            elif kind == "descriptors":
                each.descriptors(header, [len(page) for page in map(str, pages)], 1)
            else:
                raise AssertionError(kind)


def _finish(opened: OpenStore, stored: StoredAssembly, file: bytes) -> StoredImage:
    stored.finish(xxhash.xxh3_128(file).hexdigest())
    names = opened.store.namespace
    with opened.store.lock:
        names.link(stored.image.number, "/image")
        names.link(stored.memory_volume.number, "/image.ram")
    opened.engine.commit()
    image = open_image(names.lookup("/image"), volume_reader(opened.store))
    assert image.inode.size == image.file().size == len(file)
    return image


def _require_same(image: StoredImage, plain: PlainAssembly, random: Random) -> None:
    expected, file = plain.file, image.file()
    out = memoryview(bytearray(len(expected) + 10))
    assert file.read_into(0, out) == len(expected)
    assert bytes(out[: len(expected)]) == expected
    for _ in range(20):
        start = random.randrange(len(expected) + 2)
        count = random.choice([1, 9, 100, 5000, 300_000])
        view = memoryview(bytearray(count))
        length = file.read_into(start, view)
        assert bytes(view[:length]) == expected[start : start + count]
    for index, block in enumerate(image.blocks):
        content = memoryview(bytearray(block["length"]))
        image.read_block(block, 0, content)
        assert bytes(content) == bytes(plain.contents[index])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_stream_brings_again_the_file_has_all_and_the_memory_the_last(
    data: st.DataObject,
) -> None:
    kinds = ["literal", "zeros", "records", "zero records", "apart", "zero memory", "repeated"]
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        for _ in range(data.draw(st.integers(1, 14))):
            told.tell(data, [*kinds, "descriptors"])
        image = _finish(opened, stored, told.plain.file)
        _require_same(image, told.plain, Random(1))
        assert opened.store.check() == []


def test_pages_of_several_blocks_come_again() -> None:
    """All but the guest's memory lie one after the other in the skeleton."""
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        for number in range(2):
            for block in range(len(_BLOCKS)):
                for each in told.both:
                    pages = _some([number, block, number + block])
                    each.page_records(block, PAGE_SIZE, 0x1008, pages)
        image = _finish(opened, stored, told.plain.file)
        _require_same(image, told.plain, Random(1))


def test_pages_far_from_one_another_take_little_memory() -> None:
    """Half a megabyte each it was, for the length that a header claims."""
    far, count = 256 << 20, 600
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        stored.blocks([("ram", far * count)], 0)
        file = []
        tracemalloc.start()
        try:
            for page in _pages[:2]:
                for number in range(count):
                    stored.page_records(0, number * far, number, page)
                    file.append(number.to_bytes(8, "big") + page)
            image = _finish(opened, stored, b"".join(file))
            assert tracemalloc.get_traced_memory()[1] < 24 << 20
        finally:
            tracemalloc.stop()
        out = memoryview(bytearray(PAGE_SIZE))
        image.read_block(image.blocks[0], 7 * far, out)
        assert out == _pages[1]
        again = memoryview(bytearray(image.file().size))
        assert image.file().read_into(0, again) == len(again)
        assert again == b"".join(file)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32))
def test_memory_verbatim_lies_anywhere_in_the_file(seed: int) -> None:
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        at = 0
        random = Random(seed)
        while at < _BLOCKS[0][1] - 13_000:
            at += random.choice([0, 0, 1, 512, 4096])
            count = random.choice([1, 100, 4096, 8000, 8192])
            content = _pages[random.randrange(6)] * 2
            for each in told.both:
                each.memory(0, at, content[:count])
                each.literal(b"between"[: at % 3])
            at += count
        image = _finish(opened, stored, told.plain.file)
        _require_same(image, told.plain, random)
        assert opened.store.check() == []


def test_packed_pages_and_their_descriptors_are_made_again(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        pages = _some([1, 2, 3, 4, 5, 0] * 30)[: 9 * PAGE_SIZE] + _some([4] * 31)
        packed = [
            zlib.compress(pages[at : at + PAGE_SIZE], 1) for at in range(0, len(pages), PAGE_SIZE)
        ]
        sizes = [len(each) for each in packed]
        for each in told.both:
            each.descriptors(4096, sizes, 1)
            each.packed_pages(Packing.ZLIB_1, 0, 0, pages, sizes)
        image = _finish(opened, stored, told.plain.file)
        _require_same(image, told.plain, Random(3))


def test_a_container_holds_the_inner_file_in_any_order(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        plain = PlainAssembly()
        for each in (stored, plain):
            each.begin_container()
            each.blocks(list(_BLOCKS), 0)
            each.at(100)
            each.memory(0, 0, _some([1, 2]))
            each.at(0)
            each.literal(b"h" * 100)
            each.at(10_000)
            each.memory(0, 2 * PAGE_SIZE, _some([3]))
            each.container_literal(b"makedumpfile")
            each.container_record(100, 5000)
            each.container_zeros(77)
            each.container_inner(0, 100)
            each.container_record(5100, 100 + 2 * PAGE_SIZE - 5100)
            each.container_inner(10_000, PAGE_SIZE)
        image = _finish(opened, stored, plain.file)
        _require_same(image, plain, Random(5))


def test_many_parts_in_no_order_take_little_memory() -> None:
    count = 40_000
    with scratch() as folder, OpenStore(folder / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        stored.begin_container()
        inner = Random(1).randbytes(10 * count)
        for first in (1, 0):
            for at in range(first * 10, len(inner), 20):
                stored.at(at)
                stored.literal(inner[at : at + 10])
        stored.container_inner(0, len(inner))
        tracemalloc.start()
        try:
            image = _finish(opened, stored, inner)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
        again = memoryview(bytearray(len(inner)))
        assert image.file().read_into(0, again) == len(again)
        assert again == inner


def test_an_image_keeps_its_parts_until_it_goes(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        for each in told.both:
            each.page_records(0, 0, 0, _some([1, 2, 3]))
        _finish(opened, stored, told.plain.file)
        names = opened.store.namespace
        with opened.store.lock:
            memory = names.unlink("/image.ram")
            opened.store.remove(memory.number)  # stays: the image needs it
    with OpenStore(tmp_path / "store", "default") as opened:
        names = opened.store.namespace
        image = open_image(names.lookup("/image"), volume_reader(opened.store))
        _require_same(image, told.plain, Random(7))
        with opened.store.lock:
            opened.store.remove(names.unlink("/image").number)
        while opened.store.remove_some():
            pass
        opened.engine.commit()
        assert len(names) == 1
        assert opened.store.object_count() == 0
        assert opened.store.check() == []


def test_an_import_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        for each in told.both:
            each.page_records(0, 0, 0, _some([1, 2, 3]))
        stored.finish("")
        opened.engine.commit()
    with OpenStore(tmp_path / "store", "default") as opened:
        while opened.store.remove_some():
            pass
        assert len(opened.store.namespace) == 1
        assert opened.store.check() == []


def test_a_crash_between_the_commits_of_a_removal_leaves_a_sound_store(tmp_path: Path) -> None:
    with OpenStore(tmp_path / "store", "default") as opened:
        stored = StoredAssembly(opened.engine, "test", 0o644, 0, 0)
        told = _Told(stored)
        for each in told.both:
            each.page_records(0, 0, 0, _some([1, 2, 3]))
        stored.finish("")
        opened.engine.commit()
    for removed in range(1, 4):
        store = Store.open(tmp_path / "store")
        for _ in range(removed):
            store.remove_some()
        store.commit()
        store.abandon()
        with Store.open(tmp_path / "store", read_only=True) as found:
            assert found.check() == []
