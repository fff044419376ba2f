"""Slots of the write buffer, against a plain model of them."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs._kernels import PageSlots
from tests.pages import PAGE

SLOTS = 6


def page(number: int) -> bytes:
    return Random(number).randbytes(PAGE)


class Buffer:
    """Slots, the pages in them, and what ought to be there: key to (content, tick), in order."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.memory = bytearray(slots * PAGE)
        self.slots = PageSlots(self.memory)
        self.waiting: dict[int, int] = {}
        self.expected: dict[int, tuple[bytes, int]] = {}

    def put(self, key: int, pages: list[bytes], tick: int) -> int:
        done = self.slots.put(self.waiting, key, b"".join(pages), tick)
        for i in range(done):
            self.expected.pop(key + i, None)
            self.expected[key + i] = (pages[i], tick)
        return done

    def check(self) -> None:
        assert list(self.waiting) == list(self.expected)
        for key, slot in self.waiting.items():
            assert self.memory[slot * PAGE : (slot + 1) * PAGE] == self.expected[key][0]
        used = sorted(self.waiting.values())
        assert used == sorted(set(used))
        assert len(used) + self.slots.available == self.slots.count

    def oldest(self, most: int, latest: int) -> list[int]:
        keys = []
        for key, (_content, tick) in self.expected.items():
            if tick > latest:
                break
            keys.append(key)
        return keys[:most]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 3), st.booleans()),
        max_size=20,
    )
)
def test_slots_hold_what_was_put_last(steps: list[tuple[int, int, int, bool]]) -> None:
    buffer = Buffer()
    tick = 0
    for number, (key, count, later, take) in enumerate(steps):
        tick += later
        pages = [page(100 * number + i) for i in range(count)]
        new = [key + i for i in range(count) if key + i not in buffer.expected]
        room = buffer.slots.available
        done = buffer.put(key, pages, tick)
        assert done == (count if len(new) <= room else new[room] - key)
        for most, latest in ((2, tick), (SLOTS, tick - 1), (SLOTS, tick)):
            if latest >= 0:
                keys = buffer.slots.oldest(buffer.waiting, most, latest)
                assert keys == buffer.oldest(most, latest)
        if take:
            for key in buffer.slots.oldest(buffer.waiting, 2, tick):
                out = bytearray(PAGE)
                slot = buffer.waiting.pop(key)
                buffer.slots.gather([slot], out)
                assert out == buffer.expected.pop(key)[0]
                buffer.slots.give_back([slot])
        buffer.check()


def test_low_slots_are_taken_first() -> None:
    """So that memory of a buffer that is never full is never touched."""
    buffer = Buffer()
    buffer.put(10, [page(1), page(2)], 0)
    assert buffer.waiting == {10: 0, 11: 1}


def test_a_slot_that_was_in_use_is_taken_before_one_that_was_not() -> None:
    buffer = Buffer()
    buffer.put(10, [page(1), page(2)], 0)
    buffer.slots.give_back([buffer.waiting.pop(10)])
    assert [buffer.slots.take() for _ in range(SLOTS)] == [0, 2, 3, 4, 5, None]


def test_touching_makes_a_page_younger() -> None:
    buffer = Buffer()
    buffer.put(1, [page(1), page(2)], 5)
    buffer.slots.touch(buffer.waiting[2], 9)
    assert buffer.slots.oldest(buffer.waiting, SLOTS, 8) == [1]
    assert buffer.slots.oldest(buffer.waiting, SLOTS, 9) == [1, 2]


def test_gathering_follows_the_order_asked_for() -> None:
    buffer = Buffer()
    buffer.put(1, [page(1), page(2), page(3)], 0)
    out = bytearray(2 * PAGE)
    buffer.slots.gather([2, 0], out)
    assert out == page(3) + page(1)


def test_wrong_slots_and_small_buffers_are_refused() -> None:
    buffer = Buffer()
    for wrong in (-1, SLOTS):
        with pytest.raises(IndexError):
            buffer.slots.gather([wrong], bytearray(PAGE))
        with pytest.raises(IndexError):
            buffer.slots.touch(wrong, 0)
        with pytest.raises(IndexError):
            buffer.slots.put({1: wrong}, 1, page(1), 0)
        with pytest.raises(IndexError):
            buffer.slots.oldest({1: wrong}, 1, 0)
    with pytest.raises(ValueError, match="small"):
        buffer.slots.gather([0, 1], bytearray(2 * PAGE - 1))


def test_parts_of_pages_are_left_alone() -> None:
    buffer = Buffer()
    assert buffer.slots.put(buffer.waiting, 1, page(1) + b"more", 0) == 1
    assert buffer.slots.put(buffer.waiting, 9, b"part", 0) == 0
    assert list(buffer.waiting) == [1]
