"""What stays resident: sizes, parts, and what is needed."""

from dataclasses import replace

import pytest

from difffs.cgroup.group import Usage
from difffs.errors import UsageError
from difffs.running.rule import (
    LEAST_BYTES,
    PRESSURE_BOUND,
    PROBED_A_SECOND,
    REFAULT_US,
    Auto,
    Fixed,
    Limits,
    Share,
    parse_rule,
)

MIB = 1 << 20
STEP = 0.5


def usage(resident: int, *, waited_us: int | None = 0, refaults: int = 0, own: int = 0) -> Usage:
    return Usage(resident, resident, own, resident - own, refaults, waited_us)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("512M", Fixed(512 * MIB)),
        ("16777216", Fixed(LEAST_BYTES)),
        ("50%", Share(0.5)),
        ("12.5 %", Share(0.125)),
        ("100%", Share(1.0)),
    ],
)
def test_what_is_written(text: str, rule: object) -> None:
    assert parse_rule(text) == rule


def test_auto_is_written_in_any_case() -> None:
    assert str(parse_rule("AUTO")) == "auto"


@pytest.mark.parametrize("text", ["", "half", "0%", "101%", "-1", "1M", "50%%", "%"])
def test_what_is_not_understood_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--resident"):
        parse_rule(text)


def test_a_size_is_for_everything() -> None:
    rule = Fixed(64 * MIB)
    assert rule.limits(usage(MIB), 0, 0.0) == Limits(64 * MIB, 64 * MIB)
    assert rule.limits(usage(500 * MIB), 900 * MIB, 1.0) == Limits(64 * MIB, 64 * MIB)


def test_a_part_is_of_the_guest_ram_beside_the_own_memory() -> None:
    rule = Share(0.5)
    assert rule.limits(usage(80 * MIB, own=70 * MIB), 0, 1.0) == Limits(None, None)
    wanted = 128 * MIB + 70 * MIB
    assert rule.limits(usage(80 * MIB, own=70 * MIB), 256 * MIB, 1.0) == Limits(wanted, wanted)
    least = Share(0.01).limits(usage(MIB), 256 * MIB, 1.0)
    assert least == Limits(LEAST_BYTES, LEAST_BYTES)


def test_nothing_is_taken_before_there_is_something_to_compare_with() -> None:
    assert Auto().limits(usage(900 * MIB), 0, 0.0) == Limits(None, None)


def test_a_little_is_taken_while_nobody_waits() -> None:
    rule = Auto()
    rule.limits(usage(1000 * MIB), 0, 0.0)
    down_to, up_to = rule.limits(usage(1000 * MIB), 0, STEP)
    assert down_to == 1000 * MIB - int(1000 * MIB * PROBED_A_SECOND * STEP)
    assert up_to is not None
    assert up_to > 1000 * MIB, "what is new finds room without waiting"


def test_own_memory_is_never_asked_for() -> None:
    rule = Auto()
    rule.limits(usage(100 * MIB, own=100 * MIB), 0, 0.0)
    down_to, _ = rule.limits(usage(100 * MIB, own=100 * MIB), 0, STEP)
    assert down_to == 100 * MIB


@pytest.mark.parametrize("measured", [True, False])
def test_memory_is_given_back_at_once_when_somebody_waits(measured: bool) -> None:
    rule = Auto()
    before = usage(400 * MIB, waited_us=0 if measured else None)
    rule.limits(before, 0, 0.0)
    waited = int(2 * PRESSURE_BOUND * STEP * 1e6)
    after = (
        replace(before, waited_us=waited)
        if measured
        else replace(before, refaults=-(-waited // REFAULT_US))
    )
    down_to, up_to = rule.limits(after, 0, STEP)
    assert down_to is None
    assert up_to is not None
    assert up_to > 420 * MIB
    again = rule.limits(after, 0, STEP)
    assert again == Limits(None, up_to), "and it rests before it takes any more"


def test_rests_become_longer_with_every_mistake_in_a_row() -> None:
    def rest(rule: Auto, now: Usage) -> int:
        steps = 0
        while rule.limits(now, 0, STEP).down_to is None:
            steps += 1
        return steps

    rule, now = Auto(), usage(400 * MIB)
    rule.limits(now, 0, 0.0)
    rests = []
    for _ in range(7):
        now = replace(now, waited_us=(now.waited_us or 0) + 10**6)
        rule.limits(now, 0, STEP)
        rests.append(rest(rule, now))
    assert rests[:3] == [4, 8, 16]
    assert 58 <= rests[-1] <= 60, "but no longer than half a minute"


@pytest.mark.parametrize("hot", [50, 200, 390])
def test_what_is_hot_stays_and_what_is_cold_leaves(hot: int) -> None:
    """A model: pages beyond the hot ones leave for good, hot ones are missed at once."""
    rule, total, resident = Auto(), 400 * MIB, 400 * MIB
    now, waited, waiting_steps = usage(total), 0, 0
    rule.limits(now, 0, 0.0)
    for _ in range(1200):
        down_to, up_to = rule.limits(now, 0, STEP)
        if down_to is not None:
            resident = min(resident, down_to)
        missed = max(hot * MIB - resident, 0)
        if missed:  # comes back within the step, as far as the limit lets it
            resident = min(hot * MIB, up_to or total)
            waited += missed // 4096 * 60
            waiting_steps += missed // 4096 * 60 > PRESSURE_BOUND * STEP * 1e6
        now = usage(resident, waited_us=waited)
    assert hot * MIB * 0.97 <= resident <= hot * MIB * 1.1
    assert waited / (1200 * STEP * 1e6) < PRESSURE_BOUND
    assert waiting_steps < 60
