"""The short way of reads: the same bytes as the long way, or a plain no."""

import ctypes
import threading
from collections.abc import Iterator
from random import Random

import pytest

from difffs._kernels import EXTENT_SIDE_BYTES, TABLE_ENTRIES, PageReader
from difffs.store.inode import Inode
from tests.pages import PAGE, guest_pages, random_page
from tests.stores import OpenStore, scratch

PAGES = TABLE_ENTRIES + 40


class Short:
    """A store with one volume of guests' pages, and the short way to them."""

    def __init__(self, opened: OpenStore) -> None:
        self.opened = opened
        self.waiting: dict[int, int] = {}
        self.routing: dict[int, int] = {}
        self.pages = guest_pages(Random(3), PAGES)
        self.inode = opened.store.namespace.get(opened.new_volume("guest", PAGES))
        opened.write(self.inode.number, 0, b"".join(self.pages))
        self.reader: PageReader = opened.store.page_reader(self.waiting, self.routing)

    def read(self, first: int, count: int = 1, inode: Inode | None = None) -> bytes | None:
        return self.read_bytes(first * PAGE, count * PAGE, inode)

    def read_bytes(self, offset: int, size: int, inode: Inode | None = None) -> bytes | None:
        out = ctypes.create_string_buffer(size + 16)
        ctypes.memset(out, 0xA5, size + 16)
        address = ctypes.addressof(out)
        done = self.reader.read(inode or self.inode, offset, size, address)
        assert out.raw[size:] == b"\xa5" * 16, "beyond the end of the buffer"
        return out.raw[:size] if done else None


def is_free(lock: threading.RLock) -> bool:
    """Whether another thread gets the lock."""
    got: list[bool] = []

    def take() -> None:
        got.append(lock.acquire(timeout=5))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got[0]


@pytest.fixture
def short() -> Iterator[Short]:
    with scratch() as folder, OpenStore(folder / "store") as opened:
        yield Short(opened)


def test_every_page_is_the_one_written(short: Short) -> None:
    for number, page in enumerate(short.pages):
        assert short.read(number) == page, number


@pytest.mark.parametrize("count", [2, 4, 16])
def test_a_few_pages_at_once(short: Short, count: int) -> None:
    for first in range(0, TABLE_ENTRIES - count, 7):
        assert short.read(first, count) == b"".join(short.pages[first : first + count])


def test_many_pages_take_the_long_way(short: Short) -> None:
    assert short.read(0, 17) is None


@pytest.mark.parametrize(("offset", "size"), [(1, PAGE), (0, 100), (512, PAGE - 512), (0, 0)])
def test_parts_of_pages_take_the_long_way(short: Short, offset: int, size: int) -> None:
    assert short.read_bytes(offset, size) is None


def test_what_ends_behind_the_volume_takes_the_long_way(short: Short) -> None:
    assert short.read(PAGES - 1) == short.pages[-1]
    assert short.read(PAGES - 1, 2) is None
    assert short.read(PAGES) is None
    short.inode.size -= 1
    assert short.read(PAGES - 1) is None


def test_two_chunks_of_a_page_table_take_the_long_way(short: Short) -> None:
    assert short.read(TABLE_ENTRIES - 1, 2) is None
    assert short.read(TABLE_ENTRIES, 2) == b"".join(short.pages[TABLE_ENTRIES:][:2])


def test_a_page_table_that_is_not_in_memory_takes_the_long_way(short: Short) -> None:
    other = short.opened.store.namespace.get(short.opened.new_volume("empty", 8))
    assert short.read(0, 1, other) is None


@pytest.mark.parametrize("which", ["waiting", "routing"])
def test_buffered_pages_take_the_long_way(short: Short, which: str) -> None:
    """The store has what was written before."""
    buffered: dict[int, int] = getattr(short, which)
    buffered[short.inode.number << 32 | 5] = 0
    assert short.read(5) is None
    assert short.read(3, 4) is None
    assert short.read(4) == short.pages[4]
    assert short.read(6, 4) == b"".join(short.pages[6:10])
    buffered.clear()
    buffered[(short.inode.number + 1) << 32 | 5] = 0  # of another volume
    assert short.read(5) == short.pages[5]


def test_a_damaged_page_takes_the_long_way_which_tells(short: Short) -> None:
    store, page = short.opened.store, random_page(Random(9))
    volume = short.opened.new_volume("damaged", 1)
    short.opened.write(volume, 0, page)
    (identity,) = store.lookup(volume, 0, 1)
    path = short.opened.path / "payloads"
    content = bytearray(path.read_bytes())
    place = content.index(page, 2 * (identity >> 8) * EXTENT_SIDE_BYTES)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([page[0] ^ 1]))
    assert short.read(0, 1, store.namespace.get(volume)) is None
    with path.open("r+b") as file:
        file.seek(place)
        file.write(page[:1])
    assert short.read(0, 1, store.namespace.get(volume)) == page


def test_the_stores_lock_is_waited_for_and_given_back(short: Short) -> None:
    done = threading.Event()

    def read() -> None:
        assert short.read(1) == short.pages[1]
        assert short.read(1, 17) is None
        done.set()

    with short.opened.store.lock:
        thread = threading.Thread(target=read)
        thread.start()
        assert not done.wait(0.05)
    thread.join(10)
    assert done.is_set()
    assert is_free(short.opened.store.lock)


def test_the_lock_is_given_back_after_an_error(short: Short) -> None:
    with pytest.raises(AttributeError):
        short.reader.read(object(), 0, PAGE, 0)  # type: ignore[arg-type]
    assert is_free(short.opened.store.lock)
