"""The digest table against a dict: it may refuse when it is full, and never invents anything."""

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from difffs._kernels import DigestTable
from tests.kernels import kernel_oracle as oracle

BUCKET = 64
ENTRIES = 8

digests = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**32 - 1, 0x1234_5678])
objects = st.integers(256, 2**32 - 1)


def table_of(buckets: int) -> DigestTable:
    return DigestTable(bytearray(BUCKET * buckets))


class DigestTableMachine(RuleBasedStateMachine):
    """Inserts, removes and moves to larger tables; a dict knows what must be found."""

    model: dict[int, int]
    table: DigestTable

    @initialize(buckets=st.integers(1, 4))
    def begin(self, buckets: int) -> None:
        self.table = table_of(buckets)
        self.model = {}

    @rule(digest=digests, number=objects)
    def insert(self, digest: int, number: int) -> None:
        if self.table.insert(digest, number):
            self.model[digest] = number  # the newest object of a digest is proposed
        else:
            assert digest not in self.model
            assert len(self.model) >= ENTRIES

    @precondition(lambda self: self.model)
    @rule(data=st.data(), number=objects)
    def insert_again(self, data: st.DataObject, number: int) -> None:
        digest = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.insert(digest, number)
        self.model[digest] = number

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        digest = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.remove(digest, self.model.pop(digest))

    @rule(digest=digests, number=objects)
    def remove_a_stranger(self, digest: int, number: int) -> None:
        there = self.model.get(digest) == number
        assert self.table.remove(digest, number) is there
        if there:
            del self.model[digest]

    @rule(more=st.integers(1, 5))
    def move(self, more: int) -> None:
        larger = table_of(self.table.entries // ENTRIES + more)
        if self.table.copy_into(larger):
            self.table = larger

    @rule(digest=digests)
    def find(self, digest: int) -> None:
        assert self.table.find(digest) == self.model.get(digest, 0)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        pairs = self.table.pairs()
        assert len(pairs) == len(self.model) == self.table.used
        assert dict(pairs) == self.model
        for digest, number in self.model.items():
            assert self.table.find(digest) == number


DigestTableMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
TestDigestTable = DigestTableMachine.TestCase


@pytest.mark.parametrize("buckets", [1, 2, 3, 100, 1000])
def test_it_fills_up_to_nine_tenths_before_it_refuses(buckets: int) -> None:
    random = Random(buckets)
    table = table_of(buckets)
    inserted: dict[int, int] = {}
    while len(inserted) < table.entries:
        digest, number = random.getrandbits(32), random.randrange(256, 1 << 32)
        if not table.insert(digest, number):
            break
        inserted[digest] = number
    assert len(inserted) >= min(ENTRIES, table.entries)
    if buckets >= 100:
        assert len(inserted) > 0.9 * table.entries
    assert dict(table.pairs()) == inserted
    assert all(table.find(digest) == number for digest, number in inserted.items())


def test_a_full_table_moves_to_a_larger_one() -> None:
    random = Random(8)
    table = table_of(64)
    while table.insert(random.getrandbits(32), random.randrange(256, 1 << 32)):
        pass
    larger = table_of(80)
    assert table.copy_into(larger)
    assert sorted(larger.pairs()) == sorted(table.pairs())
    assert larger.used == table.used
    assert not table.copy_into(table_of(8))


def test_any_number_of_objects_may_have_one_digest() -> None:
    """Once, 17 of them fitted in no table however large, and the store grew it for ever."""
    table = table_of(1)
    for number in range(256, 400):
        assert table.insert(77, number)
        assert table.find(77) == number
    assert table.used == 1
    assert table.remove(77, 399)
    assert table.find(77) == 0


def test_an_older_object_of_a_digest_is_forgotten() -> None:
    table = table_of(4)
    assert table.insert(5, 300)
    assert table.insert(5, 301)
    assert not table.remove(5, 300)
    assert table.find(5) == 301


def test_digest_zero_is_a_digest() -> None:
    table = table_of(2)
    assert table.find(0) == 0
    assert table.insert(0, 256)
    assert table.find(0) == 256
    assert table.used == 1
    assert table.remove(0, 256)
    assert table.find(0) == 0


def test_used_goes_on_from_what_the_caller_knows() -> None:
    buffer = bytearray(BUCKET)
    first = DigestTable(buffer)
    assert first.insert(9, 999)
    first.release_buffer()
    second = DigestTable(buffer, 1)
    assert second.find(9) == 999
    assert second.remove(9, 999)
    assert second.used == 0


def test_a_released_buffer_is_free() -> None:
    buffer = bytearray(BUCKET)
    table = DigestTable(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    table.release_buffer()
    buffer.append(0)
    assert table.entries == 0


@pytest.mark.parametrize("size", [0, 8, 63, 65])
def test_a_table_is_whole_buckets(size: int) -> None:
    with pytest.raises(ValueError, match="64-byte buckets"):
        DigestTable(bytearray(size))


def stored_header(extent: int, records: dict[int, int]) -> bytes:
    """A header as the index keeps it: objects of one byte, raw, with these digests by slot."""
    used = max(records)
    body = bytearray(struct.pack("<IBBHI", 4096, 0, used, 0, extent))
    for slot in range(1, used + 1):
        if slot in records:
            body += struct.pack("<IB3sII", 0, 2, b"\x01\x00\x00", records[slot], 0)
        else:
            body += bytes(16)
    return struct.pack("<I", oracle.checksum(bytes(body))) + body


@settings(max_examples=40)
@given(
    st.integers(1, 1 << 23),
    st.dictionaries(st.integers(1, 254), st.integers(0, 2**32 - 1), min_size=1, max_size=60),
)
def test_the_objects_of_a_header(extent: int, records: dict[int, int]) -> None:
    table = table_of(64)
    assert table.insert_header(stored_header(extent, records))
    expected = {digest: extent << 8 | slot for slot, digest in sorted(records.items())}
    assert dict(table.pairs()) == expected
    assert table.used == len(expected)


def test_a_header_with_more_objects_than_there_is_room() -> None:
    table = table_of(1)
    assert not table.insert_header(stored_header(5, {slot: slot * 999 for slot in range(1, 40)}))
    assert table.used == len(table.pairs()) == ENTRIES


def test_a_damaged_header_is_refused() -> None:
    good = stored_header(5, {1: 10, 3: 30})
    table = table_of(4)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x10
        with pytest.raises(ValueError, match="header"):
            table.insert_header(bad)
    for length in range(len(good)):
        with pytest.raises(ValueError, match="header"):
            table.insert_header(good[:length])
    with pytest.raises(ValueError, match="header"):
        table.insert_header(good + bytes(16))
    assert table.used == 0
