"""The digest table against a dict: it may refuse when it is full, and never invents anything.

It knows some of a digest's top bits only, fewer with longer ids, and keeps four objects at most of
which it cannot tell the digests apart.
"""

import struct
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from difffs._kernels import DIGEST_ID_BITS, DigestTable

LEAST_WAYS, MOST_WAYS = 8, 15
SMALLEST = 4 * LEAST_WAYS << 7
"""Bytes."""
CANDIDATES = 4

digests = (
    st.integers(0, 2**32 - 1)
    | st.sampled_from([0, 1, 2**32 - 1, 0x1234_5678])
    # Few buckets, and digests that differ in low bits only.
    | st.builds(lambda top, low: top << 24 | low, st.integers(0, 2), st.integers(0, 2**24 - 1))
    | st.builds(lambda top, low: top << 24 | low, st.integers(0, 2), st.integers(0, 40))
)
small_objects = st.integers(256, 1023)
objects = st.integers(256, 2**DIGEST_ID_BITS - 1)


def grown(table: DigestTable) -> DigestTable:
    return table.grow_into(bytearray(4 * table.next_slots))


def known(table: DigestTable, digest: int) -> int:
    return digest >> (32 - table.known_bits)


class DigestTableMachine(RuleBasedStateMachine):
    """Inserts, removes and growth; a dict knows what must be found."""

    @initialize()
    def begin(self) -> None:
        self.buffer = bytearray(SMALLEST)
        self.table = DigestTable(self.buffer)
        self.model: dict[int, int] = {}
        """Digest by object."""

    def _alike(self, digest: int) -> set[int]:
        wanted = known(self.table, digest)
        return {each for each, other in self.model.items() if known(self.table, other) == wanted}

    def _insert(self, digest: int, number: int) -> None:
        assume(number not in self.model)
        fits = self.table.insert(digest, number)
        alike = self._alike(digest)
        if not fits:
            assert len(self.model) >= 2 * LEAST_WAYS
            return
        self.model[number] = digest
        if len(alike) >= CANDIDATES:
            (gone,) = self.model.keys() - {each for _digest, each in self.table.pairs()}
            assert gone in alike
            del self.model[gone]

    @rule(digest=digests, number=small_objects)
    def insert(self, digest: int, number: int) -> None:
        self._insert(digest, number)

    @rule(digest=digests, number=objects)
    def insert_any(self, digest: int, number: int) -> None:
        self._insert(digest, number)

    @rule(digest=digests, numbers=st.sets(small_objects, min_size=1, max_size=30))
    def insert_alike(self, digest: int, numbers: set[int]) -> None:
        for number in numbers - self.model.keys():
            self._insert(digest, number)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def insert_again(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.insert(self.model[number], number)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), number=objects)
    def replace(self, data: st.DataObject, number: int) -> None:
        assume(number not in self.model)
        former = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.replace(self.model[former], former, number)
        self.model[number] = self.model.pop(former)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        assert self.table.remove(self.model.pop(number), number)

    @rule(digest=digests, number=objects)
    def miss_a_stranger(self, digest: int, number: int) -> None:
        assume(number not in self.model)
        assert not self.table.remove(digest, number)
        assert not self.table.replace(digest, number, 300)

    @precondition(lambda self: self.table.next_slots and self.table.slots < 16384)
    @rule()
    def grow(self) -> None:
        self.table = grown(self.table)
        left = {number for _digest, number in self.table.pairs()}
        # Where many are alike, or come into one bucket, half a bucket may be too small for them.
        for each in self.model.keys() - left:
            digest = self.model[each]
            crowd = sum(other >> 25 == digest >> 25 for other in self.model.values())
            assert len(self._alike(digest)) > 1 or crowd > LEAST_WAYS
        self.model = {each: digest for each, digest in self.model.items() if each in left}

    @rule(digest=digests)
    def find(self, digest: int) -> None:
        found = self.table.find(digest)
        alike = self._alike(digest)
        assert len(found) == len(set(found)) == min(CANDIDATES, len(alike))
        assert alike.issuperset(found)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        unknown = 32 - self.table.known_bits
        expected = sorted(
            (digest >> unknown << unknown, each) for each, digest in self.model.items()
        )
        assert sorted(self.table.pairs()) == expected
        assert self.table.used == len(self.model)


DigestTableMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
TestDigestTable = DigestTableMachine.TestCase


def test_it_fills_up_to_nine_tenths_before_it_refuses() -> None:
    random = Random(1)
    table = DigestTable(bytearray(SMALLEST))
    inserted: dict[int, int] = {}
    sizes = []
    for number in range(256, 40_000):
        digest = random.getrandbits(32)
        while not table.insert(digest, number):
            assert table.used > 0.9 * table.slots
            sizes.append(table.slots)
            table = grown(table)
        inserted[number] = digest
    assert len(sizes) > 3 * (MOST_WAYS - LEAST_WAYS + 1)
    assert sizes == sorted(set(sizes))
    assert table.used == len(inserted)
    assert all(number in table.find(digest) for number, digest in inserted.items())


def test_few_objects_are_proposed_for_a_digest_that_none_has() -> None:
    random = Random(2)
    table = DigestTable(bytearray(SMALLEST))
    for number in range(256, 20_000):
        if table.used > 0.9 * table.slots:
            table = grown(table)
        assert table.insert(random.getrandbits(32), number)
    assert sum(len(table.find(random.getrandbits(32))) for _ in range(10_000)) < 50


def test_it_grows_until_ids_are_at_their_longest() -> None:
    table = DigestTable(bytearray(SMALLEST), 0, DIGEST_ID_BITS)
    for _ in range(MOST_WAYS - LEAST_WAYS):
        table = grown(table)
    assert table.next_slots == 0
    with pytest.raises(ValueError, match="next size"):
        table.grow_into(bytearray(8 << 10))


def test_an_object_with_too_long_an_id_is_left_out() -> None:
    table = DigestTable(bytearray(SMALLEST))
    assert table.insert(5, 1 << DIGEST_ID_BITS)
    assert table.insert(5, 300)
    assert not table.replace(5, 300, 1 << DIGEST_ID_BITS)
    assert not table.remove(5, 1 << DIGEST_ID_BITS)
    assert table.pairs() == [(0, 300)]
    assert table.used == 1


def test_any_number_of_objects_may_have_one_digest() -> None:
    """Once, 17 of them fitted in no table however large, and the store grew it for ever."""
    table = DigestTable(bytearray(SMALLEST))
    for number in range(256, 400):
        assert table.insert(77, number)
        assert number in table.find(77)
    assert table.used == CANDIDATES
    assert table.remove(77, 399)
    assert table.used == CANDIDATES - 1


def test_used_goes_on_from_what_the_caller_knows() -> None:
    buffer = bytearray(SMALLEST)
    first = DigestTable(buffer)
    assert first.insert(9, 9999)
    bits = first.id_bits
    first.release_buffer()
    second = DigestTable(buffer, 1, bits)
    assert second.find(9) == [9999]
    assert second.remove(9, 9999)
    assert second.used == 0


def test_a_released_buffer_is_free() -> None:
    buffer = bytearray(SMALLEST)
    table = DigestTable(buffer)
    with pytest.raises(BufferError):
        buffer.append(0)
    table.release_buffer()
    buffer.append(0)
    assert table.slots == 0


@pytest.mark.parametrize("size", [0, 64, SMALLEST - 64, SMALLEST + 64, SMALLEST // 8 * 17])
def test_a_table_is_whole_buckets(size: int) -> None:
    with pytest.raises(ValueError, match=f"hint table of {size} bytes"):
        DigestTable(bytearray(size))


@pytest.mark.parametrize("bits", [0, 9, DIGEST_ID_BITS + 1])
def test_ids_have_some_bits(bits: int) -> None:
    with pytest.raises(ValueError, match=f"ids of {bits} bits"):
        DigestTable(bytearray(SMALLEST), 0, bits)


def stored_header(records: dict[int, int]) -> bytes:
    """A header as the index keeps it: objects of one byte, raw, with these digests by slot."""
    used = max(records)
    body = bytearray(struct.pack("<IIIB3x", 4096, 0, 0, used))
    for slot in range(1, used + 1):
        if slot in records:
            body += struct.pack("<IIII", 0, 2 | 1 << 8, 0, records[slot])
        else:
            body += bytes(16)
    return bytes(body)


@settings(max_examples=40)
@given(
    st.integers(1, (1 << DIGEST_ID_BITS - 8) - 1),
    st.dictionaries(st.integers(1, 254), digests, min_size=1, max_size=60),
)
def test_the_objects_of_a_header(extent: int, records: dict[int, int]) -> None:
    table = DigestTable(bytearray(SMALLEST))
    whole = table.insert_header(extent, stored_header(records))
    pairs = table.pairs()
    assert table.used == len(pairs)
    unknown = 32 - table.known_bits
    expected = {
        (digest >> unknown << unknown, extent << 8 | slot) for slot, digest in records.items()
    }
    assert expected.issuperset(pairs)
    for digest, _number in expected:
        alike = sum(other == digest for other, _number in expected)
        kept = sum(other == digest for other, _number in pairs)
        assert kept == min(alike, CANDIDATES) or not whole


def test_a_header_with_more_objects_than_there_is_room() -> None:
    table = DigestTable(bytearray(SMALLEST))
    random = Random(3)
    header = {slot: random.getrandbits(32) for slot in range(1, 255)}
    extent = 1
    while table.insert_header(extent, stored_header(header)):
        extent += 1
        header = {slot: random.getrandbits(32) for slot in range(1, 255)}
    assert 0.9 * table.slots < table.used == len(table.pairs())


def test_a_damaged_header_is_refused() -> None:
    good = stored_header({1: 10, 3: 30})
    table = DigestTable(bytearray(SMALLEST))
    for length in range(len(good)):
        with pytest.raises(ValueError, match="header"):
            table.insert_header(5, good[:length])
    with pytest.raises(ValueError, match="header"):
        table.insert_header(5, good + bytes(16))
    assert table.used == 0
