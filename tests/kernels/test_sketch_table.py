"""The sketch table against lists: the newest object with a feature is found first.

The table knows some of a feature's top bits: those that choose the bucket, and the tag's. Longer
ids take bits from the tags.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from difffs._kernels import SketchTable

LEAST_WAYS, MOST_WAYS = 8, 15
FIRST_BUCKET_BITS = 7
FIRST_ID_BITS, LAST_ID_BITS = 10, 25
SMALLEST = 4 * LEAST_WAYS << FIRST_BUCKET_BITS
"""Bytes."""

features = (
    st.integers(0, 2**32 - 1)
    | st.sampled_from([0, 1, 2**31, 2**32 - 1])
    # Few buckets, and features that differ in low bits only.
    | st.builds(
        lambda bucket, low: bucket << 24 | low, st.integers(0, 2), st.integers(0, 2**24 - 1)
    )
    | st.builds(lambda bucket, low: bucket << 24 | low, st.integers(0, 2), st.integers(0, 40))
)
small_ids = st.integers(256, 1023)
ids = st.integers(256, 2**LAST_ID_BITS - 1)


@dataclass
class SketchModel:
    """(known bits of the feature, object id) by bucket, newest first."""

    bucket_bits: int = FIRST_BUCKET_BITS
    ways: int = LEAST_WAYS
    id_bits: int = FIRST_ID_BITS
    buckets: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def known_bits(self) -> int:
        return min(32, self.bucket_bits + 32 - self.id_bits)

    def _known(self, feature: int) -> int:
        return feature >> (32 - self.known_bits)

    def _bucket(self, feature: int) -> list[tuple[int, int]]:
        return self.buckets.setdefault(feature >> (32 - self.bucket_bits), [])

    def find(self, feature: int) -> int:
        for known, number in self._bucket(feature):
            if known == self._known(feature):
                return number
        return 0

    def put(self, feature: int, number: int) -> None:
        while number >= 1 << self.id_bits:
            if self.id_bits == LAST_ID_BITS:
                return
            self._widen()
        bucket = self._bucket(feature)
        same = [entry for entry in bucket if entry[0] == self._known(feature)]
        if same:
            bucket.remove(same[0])
        bucket.insert(0, (self._known(feature), number))
        del bucket[self.ways :]

    def _widen(self) -> None:
        before = self.known_bits
        self.id_bits += 1
        lost = before - self.known_bits
        for bucket in self.buckets.values():
            bucket[:] = [(known >> lost, number) for known, number in bucket]

    def grow(self) -> None:
        if self.ways < MOST_WAYS:
            self.ways += 1
            return
        before, old = self.known_bits, self.buckets
        self.ways = LEAST_WAYS
        self.bucket_bits += 1
        self.id_bits = min(self.id_bits + 1, LAST_ID_BITS)
        gained = self.known_bits - before  # a bit that nobody knows: taken for 0
        self.buckets = {}
        for bucket in old.values():
            for known, number in bucket:
                which = known << gained >> (self.known_bits - self.bucket_bits)
                half = self.buckets.setdefault(which, [])
                if len(half) < self.ways:
                    half.append((known << gained, number))


class SketchTableMachine(RuleBasedStateMachine):
    """Puts, finds and growth, each compared with the model."""

    table: SketchTable
    model: SketchModel

    @initialize()
    def begin(self) -> None:
        self.buffer = bytearray(SMALLEST)
        self.table = SketchTable(self.buffer)
        self.model = SketchModel()
        self.asked: set[int] = {0}

    @rule(feature=features, number=small_ids)
    def put(self, feature: int, number: int) -> None:
        self.table.put(feature, number)
        self.model.put(feature, number)
        assert self.table.find(feature) == number
        self._compare(feature)

    @rule(feature=features, number=ids)
    def put_any(self, feature: int, number: int) -> None:
        self.put(feature, number)

    @rule(feature=features, number=st.integers(2**LAST_ID_BITS, 2**32 - 1))
    def put_an_object_beyond_the_ids(self, feature: int, number: int) -> None:
        self.table.put(feature, number)
        self.model.put(feature, number)
        self._compare(feature)

    @rule(feature=features)
    def find(self, feature: int) -> None:
        self._compare(feature)

    @precondition(lambda self: self.table.slots <= 8192)
    @rule(steps=st.integers(1, 8))
    def grow(self, steps: int) -> None:
        for _ in range(steps):
            self.buffer = bytearray(4 * self.table.next_slots)
            self.table = self.table.grow_into(self.buffer)
            self.model.grow()
        self._compare(0)

    @rule()
    def reopen(self) -> None:
        """The buffer and the width of ids are all there is."""
        id_bits = self.table.id_bits
        self.table.release_buffer()
        self.table = SketchTable(self.buffer, id_bits)
        self._compare(0)

    def _compare(self, feature: int) -> None:
        self.asked.add(feature)
        for each in self.asked:
            assert self.table.find(each) == self.model.find(each)
        assert self.table.id_bits == self.model.id_bits
        assert self.table.slots == self.model.ways << self.model.bucket_bits


SketchTableMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
TestSketchTable = SketchTableMachine.TestCase


def filled(entries: int, seed: int = 3) -> tuple[SketchTable, dict[int, int]]:
    """A small table with that many features of growing object ids; and what was put there."""
    random = Random(seed)
    table = SketchTable(bytearray(SMALLEST))
    put = {random.getrandbits(32): 256 + i for i in range(entries)}
    for feature, number in put.items():
        table.put(feature, number)
    return table, put


def test_growing_forgets_nothing_while_there_is_room() -> None:
    table, put = filled(700)
    found = {feature: table.find(feature) for feature in put}
    assert sum(found[feature] == number for feature, number in put.items()) > 600
    while table.slots < 64 * 1024:
        table = table.grow_into(bytearray(4 * table.next_slots))
        assert {feature: table.find(feature) for feature in put} == found


def test_it_grows_by_an_eighth_or_less() -> None:
    table = SketchTable(bytearray(SMALLEST))
    sizes = [table.slots]
    while table.slots < 64 * 1024:
        table = table.grow_into(bytearray(4 * table.next_slots))
        sizes.append(table.slots)
    assert all(8 * after <= 9 * before for before, after in pairwise(sizes))
    assert {1024 << doublings for doublings in range(7)} <= set(sizes)


def test_splitting_a_crowded_bucket_keeps_the_newest_of_each_half() -> None:
    table = SketchTable(bytearray(SMALLEST))
    while table.slots != MOST_WAYS << FIRST_BUCKET_BITS:
        table = table.grow_into(bytearray(4 * table.next_slots))
    upper = 1 << (31 - FIRST_BUCKET_BITS)
    features = [i << 16 | (upper if i % 5 == 0 else 0) for i in range(MOST_WAYS)]
    for i, feature in enumerate(features):
        table.put(feature, 300 + i)
    assert [table.find(feature) for feature in features] == [*range(300, 300 + MOST_WAYS)]
    table = table.grow_into(bytearray(4 * table.next_slots))
    lower = [i for i in range(MOST_WAYS) if i % 5]
    kept = {*range(0, MOST_WAYS, 5), *lower[-LEAST_WAYS:]}
    assert [table.find(feature) for feature in features] == [
        300 + i if i in kept else 0 for i in range(MOST_WAYS)
    ]


def test_only_the_next_size_is_grown_into() -> None:
    table = SketchTable(bytearray(SMALLEST))
    for size in (SMALLEST, 2 * SMALLEST, 4 * table.next_slots + 64):
        with pytest.raises(ValueError, match="next size"):
            table.grow_into(bytearray(size))


def test_the_newest_of_a_crowded_bucket_stay() -> None:
    table = SketchTable(bytearray(SMALLEST))
    for i in range(2 * LEAST_WAYS):
        table.put(i << 16, 300 + i)
    assert [table.find(i << 16) for i in range(2 * LEAST_WAYS)] == [
        *[0] * LEAST_WAYS,
        *range(300 + LEAST_WAYS, 300 + 2 * LEAST_WAYS),
    ]


def test_a_feature_again_takes_no_second_place() -> None:
    table = SketchTable(bytearray(SMALLEST))
    for i in range(LEAST_WAYS - 1):
        table.put(i << 16, 300 + i)
    for i in range(100):
        table.put(LEAST_WAYS << 16, 400 + i)
    assert [table.find(i << 16) for i in range(LEAST_WAYS - 1)] == [*range(300, 299 + LEAST_WAYS)]
    assert table.find(LEAST_WAYS << 16) == 499


def test_strangers_are_rarely_proposed() -> None:
    table, put = filled(4096)
    random = Random(9)
    asked = [random.getrandbits(32) for _ in range(50_000)]
    strangers = sum(table.find(feature) != 0 for feature in asked if feature not in put)
    assert strangers < 50  # eight tags of 19 bits a bucket: 0.8 expected


def test_objects_beyond_128_gib_become_no_bases() -> None:
    table = SketchTable(bytearray(SMALLEST))
    table.put(1 << 20, (1 << LAST_ID_BITS) - 1)
    table.put(7 << 20, 1 << LAST_ID_BITS)
    assert table.find(1 << 20) == (1 << LAST_ID_BITS) - 1
    assert table.find(7 << 20) == 0
    assert table.id_bits == LAST_ID_BITS


@pytest.mark.parametrize(
    "size", [0, 4, 16, SMALLEST - 16, SMALLEST + 16, SMALLEST // 2, 2 * SMALLEST + SMALLEST // 8]
)
def test_a_table_is_a_power_of_two_of_buckets(size: int) -> None:
    with pytest.raises(ValueError, match="hint table of"):
        SketchTable(bytearray(size))


@pytest.mark.parametrize("id_bits", [0, FIRST_ID_BITS - 1, LAST_ID_BITS + 1, 32, 1000])
def test_the_width_of_ids_has_limits(id_bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        SketchTable(bytearray(SMALLEST), id_bits)


def test_a_released_buffer_is_free_and_the_table_empty() -> None:
    buffer = bytearray(SMALLEST)
    table = SketchTable(buffer)
    table.put(1, 300)
    with pytest.raises(BufferError):
        buffer.append(0)
    table.release_buffer()
    buffer.append(0)
    assert table.find(1) == 0
    table.put(1, 300)
    assert table.slots == 0
