"""The write buffer against plain dictionaries: what waits, what is routed, who has how much."""

import tracemalloc
from random import Random

import pytest

from difffs.errors import OutOfResources
from difffs.page import PAGE_SIZE
from difffs.write_buffer import WriteBuffer, page_key

SLOTS = 24
VOLUMES = (1, 2)


class Model:
    """The buffer, and for each table what it ought to hold: key to content."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.buffer = WriteBuffer(SLOTS)
        self.waiting: dict[int, bytes] = {}
        self.routing: dict[int, bytes] = {}
        self.batch: tuple[list[int], list[int]] | None = None
        self.dropped_slots = 0

    def content(self) -> bytes:
        return self.random.randbytes(8) * (PAGE_SIZE // 8)

    def place(self) -> tuple[int, int]:
        return self.random.choice(VOLUMES), self.random.randrange(20)

    def put_pages(self) -> None:
        volume, page = self.place()
        pages = [self.content() for _ in range(self.random.randrange(1, 4))]
        put = self.buffer.put_pages(volume, page, memoryview(b"".join(pages)), 0)
        assert put == len(pages) or self.buffer.is_full
        for i in range(put):
            self.waiting.pop(page_key(volume, page + i), None)
            self.waiting[page_key(volume, page + i)] = pages[i]

    def put_part(self) -> None:
        volume, page = self.place()
        slot = self.buffer.take_waiting(volume, page)
        if slot is None:
            slot = self.buffer.take_slot()
        if slot is None:
            assert self.buffer.is_full
            return
        content = self.content()
        self.buffer.view(slot)[:] = content
        self.buffer.put_slot(volume, page, slot, 0)
        self.waiting.pop(page_key(volume, page), None)
        self.waiting[page_key(volume, page)] = content

    def forget(self) -> None:
        volume, first = self.place()
        end = first + self.random.choice((1, 3, 1 << 31))
        self.buffer.forget(volume, first, end)
        for key in [*self.waiting, *self.routing]:
            if page_key(volume, first) <= key < page_key(volume, 0) + end:
                self.waiting.pop(key, None)
                if self.routing.pop(key, None) is not None:
                    self.dropped_slots += 1

    def begin(self) -> None:
        if self.batch is not None:
            return
        keys = self.buffer.oldest(5, 0)
        assert keys == list(self.waiting)[:5]
        out = bytearray(5 * PAGE_SIZE)
        self.batch = keys, self.buffer.begin(keys, out)
        for i, key in enumerate(keys):
            self.routing[key] = self.waiting.pop(key)
            assert out[i * PAGE_SIZE : (i + 1) * PAGE_SIZE] == self.routing[key]

    def end(self) -> None:
        if self.batch is None:
            return
        keys, slots = self.batch
        self.batch = None
        self.dropped_slots = 0
        wanted = [i for i, key in enumerate(keys) if key in self.routing]
        assert self.buffer.still_wanted(keys, slots) == wanted
        if self.random.random() < 0.5:
            self.buffer.finish(keys, slots)
        else:
            self.buffer.put_back(keys, slots)
            older = {key: self.routing[key] for key in keys if key in self.routing}
            older = {key: value for key, value in older.items() if key not in self.waiting}
            self.waiting = older | self.waiting
        self.routing = {}

    def check(self) -> None:
        assert list(self.buffer.waiting) == list(self.waiting)
        assert list(self.buffer.routing) == list(self.routing)
        assert bool(self.buffer) == bool(self.waiting or self.routing)
        for key in {*self.waiting, *self.routing}:
            slot = self.buffer.slot(key)
            assert slot is not None
            wanted = self.waiting[key] if key in self.waiting else self.routing[key]
            assert bytes(self.buffer.view(slot)) == wanted
        assert self.buffer.slot(page_key(9, 0)) is None
        assert self.buffer.used == len(self.waiting) + len(self.routing) + self.dropped_slots
        assert self.buffer.is_crowded == (self.buffer.used >= SLOTS // 2)
        for volume in VOLUMES:
            mine = [key for key in (*self.waiting, *self.routing) if key >> 32 == volume]
            assert self.buffer.pages(volume) == len(mine)
            assert self.buffer.keys(volume, 0, 1 << 31) == sorted(set(mine))
            few = [key for key in sorted(set(mine)) if 2 <= key & 0xFFFFFFFF < 7]
            assert self.buffer.keys(volume, 2, 7) == few


@pytest.mark.parametrize("seed", range(20))
def test_the_buffer_holds_what_was_written_last(seed: int) -> None:
    model = Model(seed)
    steps = (model.put_pages, model.put_part, model.forget, model.begin, model.end)
    for _ in range(150):
        model.random.choices(steps, (4, 4, 2, 2, 2))[0]()
        model.check()


def test_a_large_buffer_costs_nothing_until_it_is_used() -> None:
    """A list of all free slots of a terabyte would have 268 million numbers."""
    tracemalloc.start()
    buffer = WriteBuffer(1 << 21)
    assert buffer.put_pages(1, 0, memoryview(bytes(3 * PAGE_SIZE)), 0) == 3
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(buffer.waiting.values()) == [0, 1, 2]
    assert buffer.used == 3
    assert taken < 1 << 20


def test_a_buffer_for_which_there_is_no_memory() -> None:
    with pytest.raises(OutOfResources, match="buffer=SIZE"):
        WriteBuffer(1 << 40)
