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
from difffs.study.result import Section, Table
from difffs.study.sections import live
from tests.study.passes import refused
from tests.study.sections.section_checks import check_cells, check_plots, check_words


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
    check_words(arrived, findings=1)
    assert arrived.conclusion.startswith("A live mount with the recipe default ")
    assert ", where sharing identical pages alone, as ESX does, saves " in arrived.conclusion
    assert "running guest" not in arrived.conclusion
    assert arrived.findings[0].startswith("On alike, the mount takes ")
    assert " with identical-only for " in arrived.findings[0]
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
    check_cells(arrived)


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
    check_words(section, findings=2)
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
    assert section.conclusion == (
        "Each running guest with its RAM on a mount saved 48.8 % when up and 48.8 to 74.4 % in the"
        " end; it wrote 1,000 to 7,500 pages/s over all and 1,000 to 14,375 in its busiest second,"
        " 0.10 to 1.44 times what ESX scans."
    )
    of_whole, of_cut = section.findings
    assert (
        "vm (whole) (recipe default) saved 48.8 % when it was up and 74.4 % at the end" in of_whole
    )
    assert "vm (cut) (recipe default) saved 48.8 % at the end" in of_cut


@pytest.mark.usefixtures("no_mount")
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "14,375 in its busiest second, more than ESX scans."),
        (1, "1,000 in its busiest second, not even what ESX scans."),
    ],
)
def test_one_recording_is_told_alone(
    context: Context, recordings: list[Path], number: int, told: str
) -> None:
    section = live.run(replace(context, recordings=recordings[number : number + 1]))
    check_words(section, findings=1)
    assert section.conclusion.startswith("A running guest with its RAM on a mount saved 48.8 %")
    assert section.conclusion.endswith(told)


def arrivals(*figures: tuple[str, float, float]) -> Table:
    """The table of arrivals of (corpus, seconds, stored share)."""
    pages = 60_000
    made = []
    for corpus, seconds, share in figures:
        samples = [at(0, 0, 69632), at(seconds, pages, int(share * pages * PAGE_SIZE))]
        made += [live._Arrival(corpus, recipe, seconds, samples) for recipe in live._RECIPES]
    return live._arrival_table(made)


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (
            [("one", 3, 0.25)],
            "keeps up with the 10,000 pages/s at which ESX scans: it takes 20,000 pages/s, 2.00",
        ),
        (
            [("one", 3, 0.25), ("two", 4, 0.25)],
            " on every corpus: it takes 15,000 (two) to 20,000 (one) pages/s, 1.50 to 2.00 times",
        ),
        (
            [("one", 3, 0.25), ("two", 12, 0.5)],
            "ESX scans on one only: it takes 5,000 (two) to 20,000 (one) pages/s, 0.50 to 2.00",
        ),
        ([("one", 12, 0.25)], "does not keep up with the 10,000 pages/s at which ESX scans: it"),
    ],
)
def test_the_judgement_follows_the_rates(
    figures: list[tuple[str, float, float]], told: str
) -> None:
    table = arrivals(*figures)
    conclusion = " ".join(live._about_arrivals(table))
    assert told in conclusion
    assert Section(6, "live", "", [table], [], conclusion).unsupported_numbers() == []


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
