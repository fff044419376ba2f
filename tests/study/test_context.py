"""Passes: cached, in order, alone when they want to be, and a killed one is reported."""

from dataclasses import replace
from pathlib import Path

import pytest

from difffs.errors import EnvironmentProblem
from difffs.study.cache import Cache
from difffs.study.context import Context, Failure
from difffs.study.passes import Pass
from tests.study.passes import broken, killed, refused, spans, unwritable


@pytest.fixture
def fresh(context: Context, tmp_path: Path) -> Context:
    """A context with an empty cache."""
    return replace(context, cache=Cache(tmp_path / "cache"))


def passes(context: Context, count: int, seconds: float, **settings: bool) -> list[Pass]:
    images = context.corpora[0].images
    return [
        Pass("spans", 1, spans, images, {"number": number, "seconds": seconds}, **settings)
        for number in range(count)
    ]


def test_results_come_in_order_and_from_the_cache_the_second_time(fresh: Context) -> None:
    wanted = passes(fresh, 3, 0.0)
    told: list[tuple[str, int, int]] = []
    fresh.progress = lambda name, done, count: told.append((name, done, count))
    first = fresh.results(wanted)
    assert [result["number"] for result in first] == [0, 1, 2]
    assert told == [("spans", 1, 3), ("spans", 2, 3), ("spans", 3, 3)]
    told.clear()
    assert fresh.results(wanted[::-1]) == first[::-1]
    assert told == []
    assert list(fresh.scratch.iterdir()) == []


@pytest.mark.parametrize("settings", [{"timed": True}, {"large": True}])
def test_those_that_want_to_be_alone_are(fresh: Context, settings: dict[str, bool]) -> None:
    beside = passes(fresh, 2, 0.05)
    alone = [
        replace(each, parameters={**each.parameters, "alone": 1})
        for each in passes(fresh, 2, 0.05, **settings)
    ]
    found = [result["span"] for result in fresh.results([*alone, *beside])]
    for span in found[:2]:
        others = [other for other in found if other is not span]
        assert all(end <= span[0] or span[1] <= start for start, end in others)


def test_a_killed_pass_is_reported_and_others_are_kept(fresh: Context) -> None:
    (kept,) = passes(fresh, 1, 0.0)
    fresh.results([kept])
    bad = Pass("killed", 1, killed, kept.images)
    with pytest.raises(EnvironmentProblem, match=r"killed.*--workers 1"):
        fresh.results([kept, bad])
    assert fresh.cache.get(kept.key) is not None
    assert fresh.cache.get(bad.key) is None


def test_attempts_give_reasons_where_a_host_fails(fresh: Context) -> None:
    (good,) = passes(fresh, 1, 0.0)
    told: list[tuple[str, int, int]] = []
    fresh.progress = lambda name, done, count: told.append((name, done, count))
    bad = [Pass("bad", 1, function, good.images) for function in (refused, unwritable, killed)]
    refusal, complaint, end, result = fresh.attempts("trying", [*bad, good])
    assert refusal == Failure("it is forbidden here")
    assert isinstance(complaint, Failure)
    assert "No such file or directory" in complaint.reason
    assert isinstance(end, Failure)
    assert "killed" in end.reason
    assert isinstance(result, dict)
    assert result == fresh.cache.get(good.key)
    assert told == [("trying", number, 4) for number in (1, 2, 3, 4)]
    assert all(fresh.cache.get(each.key) is None for each in bad), "another time it may work"
    assert fresh.attempts("trying", [good]) == [result]


def test_a_bug_is_no_property_of_the_host(fresh: Context) -> None:
    with pytest.raises(AssertionError, match="differently"):
        fresh.attempts("trying", [Pass("broken", 1, broken, fresh.corpora[0].images)])
