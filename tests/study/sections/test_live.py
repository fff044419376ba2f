"""Section 6: on a real mount, on recordings, and where there is neither."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.errors import UsageError
from difffs.page import PAGE_SIZE
from difffs.study import live as live_module
from difffs.study.cache import Cache
from difffs.study.context import Context
from difffs.study.recording import ROUTES, Event, Recording, Sample
from difffs.study.report.plots import draw
from difffs.study.result import Section
from difffs.study.sections import live
from tests.study.passes import refused


def at(seconds: float, pages: int, stored: int, routed: int | None = None) -> Sample:
    """A sample of a mount that keeps `pages`, all of them compressed."""
    kept = {**dict.fromkeys(ROUTES, 0), "compress": pages}
    done = pages if routed is None else routed
    return Sample(seconds, pages * PAGE_SIZE, stored, done, kept, 60 << 20, 4096, cached=1 << 20)


def write_recording(path: Path, name: str, samples: list[Sample], events: list[Event]) -> Path:
    about = {"work": "compile", "mebibytes": 256, "recipe": "default"}
    recorded = Recording(name, about)
    with path.open("w") as file:
        recorded.begin(file)
        items: list[Sample | Event] = [*samples, *events]
        for item in sorted(items, key=lambda item: item.seconds):
            recorded.append(file, item)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Two guests of one name: one that was up after two seconds, one cut off while it booted."""
    samples = [at(0, 0, 69632), at(1, 1000, 3 << 20), at(2, 2000, 4 << 20), at(4, 2500, 5 << 20)]
    samples.append(at(8, 4000, 4 << 20, routed=60_000))
    events = [Event(0.5, "started compile"), Event(1.9, "ready compile"), Event(7, "round 1")]
    return [
        write_recording(tmp_path / "whole.jsonl", "vm", samples, events),
        write_recording(tmp_path / "cut.jsonl", "vm", samples[:3], events[:1]),
    ]


@pytest.fixture
def no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "obstacle", lambda: "no /dev/fuse (modprobe fuse)")


@pytest.fixture
def arrived(context: Context) -> Section:
    """The corpus `alike` really written to mounts."""
    if reason := live_module.obstacle():
        pytest.skip(reason)
    return live.run(replace(context, corpora=context.corpora[:1]))


def check_plots(section: Section) -> None:
    assert section.plots
    for plot in section.plots:
        table = section.table(plot.table)
        assert table.rows
        for key in (plot.x, plot.y, plot.series, plot.panel):
            assert key is None or table.column(key)
        assert draw(plot, table).startswith("<svg")


@pytest.mark.integration
def test_a_corpus_arrives_at_a_mount(arrived: Section, context: Context) -> None:
    corpus = context.corpora[0]
    table = arrived.table("live_arrival")
    assert [row["recipe"] for row in table.rows] == list(live._RECIPES)
    savings = {}
    for row in table.rows:
        assert row["pages"] == corpus.pages
        figures = {key: value for key, value in row.items() if isinstance(value, int | float)}
        assert figures["mean"] == pytest.approx(corpus.pages / figures["seconds"])
        assert figures["over_scan"] == pytest.approx(figures["mean"] / 10_000)
        assert figures["peak"] >= figures["mean"]
        savings[row["recipe"]] = figures["saving"]
    assert 0 < savings["identical-only"] < savings["difference-engine"] < savings["default"] < 1


@pytest.mark.integration
def test_an_arrival_is_told_and_drawn(arrived: Section) -> None:
    assert arrived.unsupported_numbers() == []
    assert "On alike, a live mount with the recipe default takes" in arrived.conclusion
    assert "with identical-only; its daemon" in arrived.conclusion
    (absent,) = arrived.absent
    assert "scripts/record-guest" in absent
    check_plots(arrived)
    course = arrived.table("live_arrival_course")
    assert {row["recipe"] for row in course.rows} == {*live._RECIPES, "ESX's scan"}
    shares: dict[object, float] = {}
    for row in arrived.table("live_arrival_routes").rows:
        assert isinstance(row["share"], float)
        shares[row["seconds"]] = shares.get(row["seconds"], 0.0) + row["share"]
    assert list(shares.values()) == [pytest.approx(1)] * len(shares)
    for table in arrived.tables:
        for row in table.rows:
            assert set(row) == {column.key for column in table.columns}


def test_an_arrival_that_the_host_refuses_is_absent(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "obstacle", lambda: None)
    monkeypatch.setattr(live_module, "arrival_pass", refused)
    fresh = replace(context, corpora=context.corpora[:1], cache=Cache(tmp_path / "cache"))
    section = live.run(fresh)
    assert section.absent[:4] == [
        f"arrival of alike with {recipe}: it is forbidden here" for recipe in live._RECIPES
    ]
    assert section.tables == []
    assert section.plots == []
    assert section.conclusion.startswith("No corpus could be written")


@pytest.mark.usefixtures("no_mount")
def test_recordings_are_told_without_a_mount(context: Context, recordings: list[Path]) -> None:
    section = live.run(replace(context, recordings=recordings))
    assert section.absent == ["arrival at a live mount: no /dev/fuse (modprobe fuse)"]
    assert section.unsupported_numbers() == []
    check_plots(section)
    rates = {row["recording"]: row["rate"] for row in section.table("live_recording_course").rows}
    assert rates["ESX's scan"] == 10_000
    table = section.table("live_recordings")
    assert [row["recording"] for row in table.rows] == ["vm (whole)", "vm (cut)"]
    whole, cut = table.rows
    assert whole["up"] == pytest.approx(1 - (4 << 20) / (2000 * PAGE_SIZE))
    assert whole["saving"] == pytest.approx(1 - (4 << 20) / (4000 * PAGE_SIZE))
    assert whole["written"] == 15
    assert whole["mean"] == 7500
    assert whole["peak"] == pytest.approx((60_000 - 2500) / 4)
    assert cut["up"] is None
    told = section.conclusion
    assert "(vm (whole), recipe default) had saved 48.8 % when it was up and 74.4 %" in told
    assert "with 14,375 in its busiest second, more than what ESX would scan" in told
    assert "(vm (cut), recipe default) had saved 48.8 % at the end" in told
    assert "with 1,000 in its busiest second, not even what ESX would scan" in told


@pytest.mark.usefixtures("no_mount")
def test_events_stand_with_what_was_there(context: Context, recordings: list[Path]) -> None:
    section = live.run(replace(context, recordings=recordings[:1]))
    assert [
        (row["recording"], row["seconds"], row["event"], row["pages"])
        for row in section.table("live_events").rows
    ] == [
        ("vm", 0.5, "started compile", 0),
        ("vm", 1.9, "ready compile", 1000),
        ("vm", 7, "round 1", 2500),
    ]


@pytest.mark.usefixtures("no_mount")
def test_a_recording_of_nothing_is_absent(context: Context, tmp_path: Path) -> None:
    empty = [
        write_recording(tmp_path / "a.jsonl", "a", [at(0, 0, 69632), at(1, 0, 69632)], []),
        write_recording(tmp_path / "b.jsonl", "b", [], []),
    ]
    section = live.run(replace(context, recordings=empty))
    assert [line.partition(":")[0] for line in section.absent[1:]] == ["a", "b"]
    assert section.tables == []
    assert section.plots == []
    assert section.conclusion.startswith("No corpus could be written")


@pytest.mark.usefixtures("no_mount")
def test_what_is_no_recording_is_refused(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"name": "vm"}))
    with pytest.raises(UsageError, match=r"other\.json"):
        live.run(replace(context, recordings=[path]))


steps = st.lists(st.tuples(st.floats(0.01, 3), st.integers(1, 5000)), min_size=1, max_size=80)


@given(steps, st.integers(3, 20))
def test_a_course_has_every_page_that_was_routed(
    parts: list[tuple[float, int]], count: int
) -> None:
    samples = [at(0, 0, 69632)]
    for seconds, pages in parts:
        last = samples[-1]
        samples.append(at(last.seconds + seconds, last.total + pages, last.stored + pages))
    shown = live.course(samples, count)
    assert len(shown) <= count
    assert shown[-1][0] is samples[-1]
    assert all(earlier.seconds < later.seconds for (earlier, _), (later, _) in pairwise(shown))
    least = live._COUNTED_FROM * samples[-1].logical
    assert all(one.logical >= least for one, _rate in shown)
    first = shown[0][0]
    begin = samples[samples.index(first) - 1]
    moments = [begin, *(one for one, _rate in shown)]
    routed = sum(
        rate * (later.seconds - earlier.seconds)
        for (earlier, later), (_, rate) in zip(pairwise(moments), shown, strict=True)
    )
    assert routed == pytest.approx(samples[-1].routed - begin.routed)
