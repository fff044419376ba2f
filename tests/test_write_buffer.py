"""The write buffer against plain dictionaries: what waits, what is routed, who has how much."""

import ctypes
import mmap
import subprocess
import sys
import time
from array import array
from pathlib import Path
from random import Random

import pytest

from difffs._kernels import Extents, TableChunks, VolumePages
from difffs.errors import OutOfResources
from difffs.page import PAGE_SIZE
from difffs.write_buffer import open_pages, page_key
from tests.stores import OpenStore

SLOTS = 24
VOLUMES = (1, 2)


class Model:
    """The buffer, and what it ought to hold: key to content."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.chunks = TableChunks()
        # Only a mapping's memory can be given back.
        memory = mmap.mmap(-1, SLOTS * PAGE_SIZE) if seed % 4 else bytearray(SLOTS * PAGE_SIZE)
        self.buffer = VolumePages(self.chunks, Extents(-1), memory)
        self.buffer.set_tick(1)
        for volume in VOLUMES:
            self.chunks.bring(volume, 0, None)
        self.waiting: dict[int, bytes] = {}
        self.routing: dict[int, bytes] = {}
        self.mapped: dict[int, int] = {}
        self.released: list[int] = []
        self.batch: tuple[array[int], array[int]] | None = None
        self.dropped_slots = 0
        self.last_id = 1000

    def content(self) -> bytes:
        return self.random.randbytes(8) * (PAGE_SIZE // 8)

    def place(self) -> tuple[int, int]:
        return self.random.choice(VOLUMES), self.random.randrange(20)

    def write(self, key: int, content: bytes) -> None:
        self.waiting.pop(key, None)
        self.waiting[key] = content

    def put_pages(self) -> None:
        volume, page = self.place()
        key = page_key(volume, page)
        pages = [self.content() for _ in range(self.random.randrange(1, 4))]
        put = self.buffer.put(key, b"".join(pages))
        assert put == len(pages) or not self.buffer.has_room(volume)
        for i in range(put):
            self.write(key + i, pages[i])

    def put_part(self) -> None:
        """As volumes do: into what waits, or into a copy of what is elsewhere."""
        key = page_key(*self.place())
        start = self.random.randrange(PAGE_SIZE - 100)
        part = self.random.randbytes(100)
        if self.buffer.write_waiting(key, start, part):
            old = self.waiting[key]
        else:
            assert key not in self.waiting
            place, content = self.buffer.place(key), bytearray(PAGE_SIZE)
            assert self.buffer.copy_buffered(key, content) == (key in self.routing)
            old = bytes(content)
            content[start : start + 100] = part
            room = self.buffer.has_room(key >> 32)
            put = self.buffer.put_from(key, place, content)
            assert put is (True if room else None)
            if put is None:
                return
        self.write(key, old[:start] + part + old[start + 100 :])

    def put_too_late(self) -> None:
        """Of a page that is somewhere else by now."""
        key = page_key(*self.place())
        if key not in self.waiting and self.buffer.has_room(key >> 32):
            place = self.buffer.place(key)
            content = self.content()
            self.buffer.put(key, content)
            self.write(key, content)
            assert self.buffer.put_from(key, place, self.content()) is False

    def forget(self) -> None:
        volume, first = self.place()
        end = first + self.random.choice((1, 3, 1 << 31))
        before = self.buffer.available
        freed = self.buffer.forget(volume, first, end)
        assert self.buffer.available == before + freed
        for key in [*self.waiting, *self.routing]:
            if page_key(volume, first) <= key < page_key(volume, 0) + end:
                self.waiting.pop(key, None)
                if self.routing.pop(key, None) is not None:
                    self.dropped_slots += 1

    def begin(self) -> None:
        if self.batch is not None:
            return
        chosen = self.buffer.oldest(5, 1)
        assert list(chosen) == list(self.waiting)[:5]
        out = bytearray(5 * PAGE_SIZE)
        if chosen and self.random.random() < 0.3:  # dropped after the choice
            volume, page = divmod(self.random.choice(chosen), 1 << 32)
            assert self.buffer.forget(volume, page, page + 1) == 1
            del self.waiting[page_key(volume, page)]
        keys, slots = self.batch = self.buffer.begin(chosen, out)
        assert list(keys) == [key for key in chosen if key in self.waiting]
        assert len(slots) == len(keys)
        for i, key in enumerate(keys):
            self.routing[key] = self.waiting.pop(key)
            assert out[i * PAGE_SIZE : (i + 1) * PAGE_SIZE] == self.routing[key]

    def end(self) -> None:
        if self.batch is None:
            return
        keys, slots = self.batch
        self.batch = None
        self.dropped_slots = 0
        if self.random.random() < 0.5:
            ids = array("I", range(self.last_id + 1, self.last_id + 1 + len(keys)))
            self.last_id += len(keys)
            assert self.buffer.adopt(keys, slots, ids) == len(self.routing)
            for key, identity in zip(keys, ids, strict=True):
                if key in self.routing:
                    if key in self.mapped:
                        self.released.append(self.mapped[key])
                    self.mapped[key] = identity
                else:
                    self.released.append(identity)
        else:
            self.buffer.put_back(keys, slots)
            older = {key: self.routing[key] for key in keys if key in self.routing}
            older = {key: value for key, value in older.items() if key not in self.waiting}
            self.waiting = older | self.waiting
        self.routing = {}

    def give_back(self) -> None:
        assert self.buffer.give_back_memory() <= self.buffer.available

    def used(self) -> int:
        return len(self.waiting) + len(self.routing)

    def check(self) -> None:
        buffer = self.buffer
        assert list(buffer.waiting()) == list(self.waiting)
        assert sorted(buffer.routing()) == sorted(self.routing)
        assert buffer.waiting_count == len(self.waiting)
        assert buffer.routing_count == len(self.routing)
        page = bytearray(PAGE_SIZE)
        for key in {*self.waiting, *self.routing}:
            assert buffer.is_buffered(key)
            assert buffer.copy_buffered(key, page)
            assert page == (self.waiting[key] if key in self.waiting else self.routing[key])
        some = array("Q", [page_key(v, p) for v in VOLUMES for p in range(20)])
        assert list(buffer.those_waiting(some)) == [key for key in some if key in self.waiting]
        assert not buffer.is_buffered(page_key(9, 0))
        assert buffer.slots - buffer.available == self.used() + self.dropped_slots
        assert buffer.is_crowded == (buffer.available <= SLOTS // 2)
        for volume in VOLUMES:
            mine = [key for key in (*self.waiting, *self.routing) if key >> 32 == volume]
            assert buffer.buffered(volume) == len(mine)
            assert buffer.has_room(volume) == (buffer.available > (SLOTS // 8 if mine else 0))
            pages = sorted(key & 0xFFFFFFFF for key in mine)
            for first, end in ((0, 1 << 31), (2, 7), (7, 7)):
                wanted = next((page for page in pages if first <= page < end), end)
                assert buffer.next_buffered(volume, first, end) == wanted
            ids = array("I", bytes(4 * 20))
            self.chunks.lookup(volume, 0, 0, 20, ids, 0)
            assert list(ids) == [self.mapped.get(page_key(volume, page), 0) for page in range(20)]
        assert self.chunks.released == len(self.released)


@pytest.mark.parametrize("seed", range(20))
def test_the_buffer_holds_what_was_written_last(seed: int) -> None:
    model = Model(seed)
    steps = (
        model.put_pages,
        model.put_part,
        model.put_too_late,
        model.forget,
        model.begin,
        model.end,
        model.give_back,
    )
    for _ in range(150):
        model.random.choices(steps, (4, 4, 1, 2, 2, 2, 1))[0]()
        model.check()


def buffer_of(slots: int) -> VolumePages:
    return VolumePages(TableChunks(), Extents(-1), bytearray(slots * PAGE_SIZE))


def test_a_page_may_wait_while_it_is_routing() -> None:
    buffer = buffer_of(4)
    buffer.put(page_key(1, 5), bytes(PAGE_SIZE))
    keys, slots = buffer.begin(array("Q", [page_key(1, 5)]), bytearray(PAGE_SIZE))
    assert list(keys) == [page_key(1, 5)]
    newer = b"n" * PAGE_SIZE
    assert buffer.put(page_key(1, 5), newer) == 1
    assert buffer.buffered(1) == 2
    page = bytearray(PAGE_SIZE)
    assert buffer.copy_buffered(page_key(1, 5), page)
    assert page == newer
    buffer.put_back(array("Q", [page_key(1, 5)]), slots)
    assert buffer.buffered(1) == 1
    assert buffer.copy_buffered(page_key(1, 5), page)
    assert page == newer


def test_pages_are_quiet_by_the_clock() -> None:
    buffer = buffer_of(8)
    for tick in (3, 5, 9):
        buffer.set_tick(tick)
        buffer.put(page_key(1, tick), bytes(PAGE_SIZE))
    assert list(buffer.oldest(9, 2)) == []
    assert list(buffer.oldest(9, 8)) == [page_key(1, 3), page_key(1, 5)]
    buffer.write_waiting(page_key(1, 3), 0, b"x")  # written again: the youngest
    assert list(buffer.oldest(9, 8)) == [page_key(1, 5)]
    assert list(buffer.oldest(1, 9)) == [page_key(1, 5)]


def test_who_fills_the_buffer_leaves_room_for_others() -> None:
    buffer = buffer_of(64)
    assert buffer.put(page_key(1, 0), bytes(100 * PAGE_SIZE)) == 56
    assert not buffer.has_room(1)
    assert buffer.put(page_key(1, 0), bytes(PAGE_SIZE)) == 1, "a page that waits has its slot"
    for other in (2, 3):
        assert buffer.put(page_key(other, 0), bytes(9 * PAGE_SIZE)) == 4, "a sixteenth of all"
    assert buffer.available == 0
    assert not buffer.has_room(4)


def test_what_is_wrong_is_refused() -> None:
    buffer = buffer_of(4)
    key = page_key(1, 0)
    buffer.put(key, bytes(PAGE_SIZE))
    keys, two = array("Q", [key]), array("I", [0, 1])
    nothing = buffer.begin(array("Q", [key + 1]), bytearray(PAGE_SIZE))
    assert nothing == (array("Q"), array("I"))
    with pytest.raises(ValueError, match="small"):
        buffer.begin(keys, bytearray(PAGE_SIZE - 1))
    with pytest.raises(ValueError, match="as many"):
        buffer.adopt(keys, two, two)
    with pytest.raises(ValueError, match="as many"):
        buffer.put_back(keys, two)
    with pytest.raises(IndexError):
        buffer.write_waiting(key, PAGE_SIZE, b"x")
    with pytest.raises(IndexError):
        buffer.write_waiting(key, 0, b"")
    with pytest.raises(ValueError, match="4096"):
        buffer.put_from(key, buffer.place(key), b"short")
    with pytest.raises(ValueError, match="small"):
        buffer.copy_buffered(key, bytearray(10))
    assert buffer.put(key, b"part of a page") == 0


def test_a_mark_for_the_routing_thread_is_not_lost() -> None:
    buffer = buffer_of(8)
    buffer.wake()
    began = time.monotonic()
    buffer.wait_for_work(30)
    buffer.put(page_key(1, 0), bytes(PAGE_SIZE))  # the first one
    buffer.wait_for_work(30)
    buffer.put(page_key(1, 1), bytes(4 * PAGE_SIZE))  # more than half
    buffer.wait_for_work(30)
    assert time.monotonic() - began < 15
    began = time.monotonic()
    buffer.wait_for_work(0.02)
    assert time.monotonic() - began >= 0.015


def test_memory_that_is_not_used_for_a_while_is_given_back() -> None:
    """A while: from one call to the next."""
    slots = 300
    memory = mmap.mmap(-1, slots * PAGE_SIZE)
    buffer = VolumePages(TableChunks(), Extents(-1), memory)
    assert buffer.put(page_key(1, 0), b"a" * 200 * PAGE_SIZE) == 200
    assert buffer.forget(1, 50, 1 << 31) == 150
    assert buffer.resident_slots == 200
    assert buffer.give_back_memory() == 0, "they were in use a moment ago"
    assert buffer.put(page_key(1, 500), b"b" * 10 * PAGE_SIZE) == 10
    assert buffer.give_back_memory() == 140
    assert buffer.resident_slots == 60 == _resident_pages(memory)
    assert buffer.give_back_memory() == 0, "only once"
    page = bytearray(PAGE_SIZE)
    for key, wanted in ((0, b"a"), (49, b"a"), (500, b"b"), (509, b"b")):
        assert buffer.copy_buffered(page_key(1, key), page)
        assert page == wanted * PAGE_SIZE
    assert buffer.put(page_key(1, 600), b"c" * 30 * PAGE_SIZE) == 30
    assert buffer.copy_buffered(page_key(1, 629), page)
    assert page == b"c" * PAGE_SIZE
    assert buffer.forget(1, 600, 630) == 30
    assert [buffer.give_back_memory() for _ in range(3)] == [0, 30, 0]


def _resident_pages(memory: mmap.mmap) -> int:
    """As the kernel has it."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    found = (ctypes.c_ubyte * (len(memory) // PAGE_SIZE))()
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    assert mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(memory)), found) == 0
    return sum(each & 1 for each in found)


def test_memory_that_cannot_be_given_back_stays() -> None:
    buffer = buffer_of(8)  # no mapping
    assert buffer.put(page_key(1, 0), bytes(4 * PAGE_SIZE)) == 4
    assert buffer.forget(1, 0, 3) == 3
    assert [buffer.give_back_memory() for _ in range(3)] == [0, 0, 0]
    assert buffer.is_buffered(page_key(1, 3))


def test_a_large_buffer_costs_nothing_until_it_is_used(tmp_path: Path) -> None:
    """Slots of eight gigabytes. In a process of its own: what other tests have freed is memory
    that is there already."""
    with OpenStore(tmp_path / "store"):
        pass
    program = """
import sys
from pathlib import Path
from difffs.page import PAGE_SIZE
from difffs.stats import own_bytes
from difffs.store import Store
from difffs.write_buffer import open_pages, page_key

with Store.open(Path(sys.argv[1])) as store:
    before = own_bytes()
    pages = open_pages(store, 1 << 21)
    assert pages.put(page_key(1, 0), bytes(3 * PAGE_SIZE)) == 3
    print(own_bytes() - before + pages.resident_slots * PAGE_SIZE)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "store"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert 0 < int(done.stdout) < 1 << 20


def test_a_buffer_for_which_there_is_no_memory(tmp_path: Path) -> None:
    with (
        OpenStore(tmp_path / "store") as opened,
        pytest.raises(OutOfResources, match="buffer=SIZE"),
    ):
        open_pages(opened.store, 1 << 40)
