"""The sketch table against a list of slots: the newest object with a feature wins its slot."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from difffs._kernels import SketchTable

MAXIMUM_ID = (1 << 25) - 1

features = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 128, 2**32 - 1])
objects = st.integers(256, MAXIMUM_ID)


@dataclass
class SketchModel:
    """Slots in order of the feature; each holds (low 7 bits of the feature, object id)."""

    slots: list[tuple[int, int] | None] = field(default_factory=list)

    def slot(self, feature: int) -> int:
        return feature * len(self.slots) >> 32

    def find(self, feature: int) -> int:
        held = self.slots[self.slot(feature)] if self.slots else None
        return held[1] if held is not None and held[0] == feature & 127 else 0

    def put(self, feature: int, number: int) -> None:
        if self.slots and number <= MAXIMUM_ID:
            self.slots[self.slot(feature)] = (feature & 127, number)

    def doubled(self) -> "SketchModel":
        return SketchModel([held for held in self.slots for _ in range(2)])


class SketchTableMachine(RuleBasedStateMachine):
    """Puts, finds and doublings, each compared with the model."""

    table: SketchTable
    model: SketchModel

    @initialize(slots=st.sampled_from([1, 2, 16, 100, 1024]))
    def begin(self, slots: int) -> None:
        self.table = SketchTable(bytearray(4 * slots))
        self.model = SketchModel([None] * slots)

    @rule(feature=features, number=objects)
    def put(self, feature: int, number: int) -> None:
        self.table.put(feature, number)
        self.model.put(feature, number)
        assert self.table.find(feature) == number

    @rule(feature=features, number=st.integers(MAXIMUM_ID + 1, 2**32 - 1))
    def put_an_object_beyond_the_ids(self, feature: int, number: int) -> None:
        self.table.put(feature, number)
        assert self.table.find(feature) == self.model.find(feature)

    @rule(feature=features)
    def find(self, feature: int) -> None:
        assert self.table.find(feature) == self.model.find(feature)

    @precondition(lambda self: self.table.slots <= 4096)
    @rule()
    def double(self) -> None:
        larger = SketchTable(bytearray(8 * self.table.slots))
        self.table.double_into(larger)
        self.table = larger
        self.model = self.model.doubled()
        assert self.table.slots == len(self.model.slots)


SketchTableMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
TestSketchTable = SketchTableMachine.TestCase


def test_doubling_keeps_every_proposal() -> None:
    random = Random(3)
    table = SketchTable(bytearray(4 * 512))
    put = {random.getrandbits(32): random.randrange(256, MAXIMUM_ID) for _ in range(300)}
    for feature, number in put.items():
        table.put(feature, number)
    found = {feature: table.find(feature) for feature in put}
    larger = SketchTable(bytearray(8 * 512))
    table.double_into(larger)
    assert {feature: larger.find(feature) for feature in put} == found
    assert sum(found[feature] == number for feature, number in put.items()) > 200


def test_one_slot_in_128_proposes_a_stranger() -> None:
    random = Random(4)
    table = SketchTable(bytearray(4 * 64))
    for feature in range(0, 1 << 32, 1 << 26):
        table.put(feature + random.getrandbits(26), 300)
    asked = 20_000
    strangers = sum(table.find(random.getrandbits(32)) != 0 for _ in range(asked))
    assert 0.4 / 128 < strangers / asked < 2 / 128


def test_a_table_without_slots_proposes_nothing() -> None:
    table = SketchTable(bytearray(0))
    table.put(5, 300)
    assert table.slots == 0
    assert table.find(5) == 0


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4097])
def test_a_table_is_whole_slots(size: int) -> None:
    with pytest.raises(ValueError, match="4-byte slots"):
        SketchTable(bytearray(size))


@pytest.mark.parametrize("slots", [0, 8, 15, 17, 32])
def test_only_twice_the_slots_is_a_doubling(slots: int) -> None:
    with pytest.raises(ValueError, match="twice the slots"):
        SketchTable(bytearray(4 * 8)).double_into(SketchTable(bytearray(4 * slots)))


def test_a_released_buffer_is_free_and_the_table_empty() -> None:
    buffer = bytearray(64)
    table = SketchTable(buffer)
    table.put(1, 300)
    with pytest.raises(BufferError):
        buffer.append(0)
    table.release_buffer()
    buffer.append(0)
    assert table.find(1) == 0
