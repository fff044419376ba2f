"""6. Savings and pages a second while pages arrive, from a corpus and from running guests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from difffs.recipe import RECIPES
from difffs.study import live, recording
from difffs.study.cache import Result
from difffs.study.context import Context, Failure
from difffs.study.passes import Pass
from difffs.study.recording import Recording, Sample
from difffs.study.result import Cell, Column, Plot, PlotKind, Row, Section, Table, Unit
from difffs.study.wording import number, span, where

NUMBER = 6
NAME = "live"
TITLE = "Savings while it runs"

_RECIPES = ("default", "fast", "difference-engine", "identical-only")
"""Sharing identical pages is all that ESX does, which the paper compares with (figures 9, 11)."""
_SCAN_RATE = 10_000
"""Pages a second that the paper lets ESX look at, the most that it can be set to (section 5)."""
_SCAN = "ESX's scan"
_ROUTES = {
    "zero": ("zero", "same"),
    "identical": ("identical",),
    "patch": ("patch",),
    "compress": ("compress",),
    "raw": ("raw",),
}
_POINTS = 40
"""Samples of each run that are shown."""
_COUNTED_FROM = 0.02
"""A course begins when that share of all pages is there: before, the store is all index."""
_UP = "ready"


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A corpus written to a mount with one recipe."""

    corpus: str
    recipe: str
    seconds: float
    samples: list[Sample]


def run(context: Context) -> Section:
    """Write every corpus to live mounts, one after the other; look at recordings of guests."""
    arrivals, absent = _arrivals(context)
    recordings, unread = read_recordings(context.recordings)
    absent += unread
    arrived, recorded = _arrival_table(arrivals), _recording_table(recordings)
    tables = [
        table
        for table in (
            arrived,
            _course_table(arrivals),
            _route_table(arrivals),
            recorded,
            _event_table(recordings),
            _recording_course_table(recordings),
            _recording_route_table(recordings),
        )
        if table.rows
    ]
    names = {table.name for table in tables}
    plots = [plot for plot in _plots() if plot.table in names]
    conclusion = " ".join([*_about_arrivals(arrived), *_about_recordings(recorded)]) or (
        "No corpus could be written to a mount on this host, and no recording of a running guest"
        " was given."
    )
    findings = [
        *(_arrival_finding(row, arrived) for row in _with_default(arrived)),
        *(_recording_finding(row, recorded) for row in recorded.rows),
    ]
    return Section(NUMBER, NAME, TITLE, tables, plots, conclusion, findings, absent)


def _arrivals(context: Context) -> tuple[list[_Arrival], list[str]]:
    """What could be measured, and what could not and why."""
    if reason := live.obstacle():
        return [], [f"arrival at a live mount: {reason}"]
    chosen = [(corpus, recipe) for corpus in context.corpora for recipe in _RECIPES]
    passes = [
        Pass(
            "arrival",
            live.ARRIVAL_PASS_VERSION,
            live.arrival_pass,
            corpus.images,
            # the mount is told the name, the result depends on what it means
            {"recipe": recipe, "meaning": RECIPES[recipe].to_dict()},
        )
        for corpus, recipe in chosen
    ]
    arrivals, absent = [], []
    for (corpus, recipe), result in zip(chosen, context.attempts("arrival", passes), strict=True):
        if isinstance(result, Failure):
            absent.append(f"arrival of {corpus.name} with {recipe}: {result.reason}")
        else:
            arrivals.append(_arrival(corpus.name, recipe, result))
    return arrivals, absent


def _arrival(corpus: str, recipe: str, result: Result) -> _Arrival:
    return _Arrival(corpus, recipe, result["seconds"], recording.from_json(result["samples"]))


def read_recordings(paths: Sequence[Path]) -> tuple[dict[str, Recording], list[str]]:
    """Read recordings; by name, with the file's where several have one name, and what is absent.

    UsageError for a file that is none.
    """
    found: dict[str, Recording] = {}
    absent = []
    read = [(path, Recording.read(path)) for path in paths]
    names = [one.name for _path, one in read]
    for path, one in read:
        label = one.name if names.count(one.name) == 1 else f"{one.name} ({path.stem})"
        if len(one.samples) > 1 and one.samples[-1].logical:
            found[label] = one
        else:
            absent.append(f"{label}: nothing had arrived when its recording ended")
    if not paths:
        absent.append(
            "running guests: no recording was given (scripts/record-guest makes one, to be named"
            " with --recording)"
        )
    return found, absent


def course(samples: Sequence[Sample], count: int = _POINTS) -> list[tuple[Sample, float]]:
    """At most `count` samples, evenly spread, each with the pages a second since the one before.

    The beginning is left out, in which there is hardly anything but the empty store.
    """
    least = _COUNTED_FROM * max(one.logical for one in samples)
    thinned = [one for one in recording.thin(samples, count) if one.logical >= least]
    before = [one for one in samples if thinned and one.seconds < thinned[0].seconds][-1:]
    return [
        (later, recording.rate(earlier, later)) for earlier, later in pairwise([*before, *thinned])
    ]


def _arrival_table(arrivals: Sequence[_Arrival]) -> Table:
    rows: list[dict[str, Cell]] = []
    for one in arrivals:
        last = one.samples[-1]
        mean = last.routed / one.seconds
        rows.append(
            {
                "corpus": one.corpus,
                "recipe": one.recipe,
                "pages": last.total,
                "seconds": one.seconds,
                "mean": mean,
                "peak": max(mean, recording.peak_rate(one.samples)),
                "over_scan": mean / _SCAN_RATE,
                "saving": last.saving,
                "identical": last.share("identical"),
                "patch": last.share("patch"),
                "memory": max(sample.daemon_rss for sample in one.samples),
            }
        )
    return Table(
        "live_arrival",
        "Corpora arriving at a live mount",
        [
            Column("corpus", "corpus"),
            Column("recipe", "recipe"),
            Column("pages", "pages", Unit.COUNT),
            Column("seconds", "seconds", Unit.SECONDS),
            Column("mean", "pages/s", Unit.RATE),
            Column("peak", "at most, for a second", Unit.RATE),
            Column("over_scan", "pages/s / ESX's", Unit.FACTOR),
            Column("saving", "saving", Unit.SHARE),
            Column("identical", "identical pages", Unit.SHARE),
            Column("patch", "patched", Unit.SHARE),
            Column("memory", "daemon MiB", Unit.MEBIBYTES),
        ],
        rows,
        "All images of a corpus written one after the other into a FUSE mount, past the page cache,"
        " as fast as it takes them, until they are durable. Saving is 1 - stored / logical, index"
        f" and slack counted. ESX scans at most {_SCAN_RATE:,} pages/s in the paper, and shares"
        " identical pages only. The daemon's memory is the most that was resident, write buffer"
        " included. Which pages are routed together depends on time: savings vary a little"
        " from run to run.",
    )


def _course_table(arrivals: Sequence[_Arrival]) -> Table:
    rows: list[dict[str, Cell]] = []
    longest: dict[str, float] = {}
    for one in arrivals:
        longest[one.corpus] = max(longest.get(one.corpus, 0.0), one.samples[-1].seconds)
        rows += [
            {
                "corpus": one.corpus,
                "recipe": one.recipe,
                "seconds": sample.seconds,
                "pages": sample.total,
                "saving": sample.saving,
                "rate": rate,
            }
            for sample, rate in course(one.samples)
        ]
    for corpus, seconds in longest.items():
        rows += [_scan_row(moment) | {"corpus": corpus, "recipe": _SCAN} for moment in (0, seconds)]
    rows.sort(key=lambda row: list(longest).index(str(row["corpus"])))
    return Table(
        "live_arrival_course",
        "Saving and pages a second while a corpus arrives",
        [
            Column("corpus", "corpus"),
            Column("recipe", "recipe"),
            Column("seconds", "time", Unit.SECONDS),
            Column("pages", "pages there", Unit.COUNT),
            Column("saving", "saving", Unit.SHARE),
            Column("rate", "pages/s", Unit.RATE),
        ],
        rows,
        "Pages/s are those since the row before. The rate of ESX is the paper's, for comparison.",
        detail=True,
    )


def _scan_row(seconds: float) -> dict[str, Cell]:
    return {"seconds": seconds, "pages": None, "saving": None, "rate": _SCAN_RATE}


def _route_rows(samples: Sequence[Sample]) -> list[dict[str, Cell]]:
    return [
        {"seconds": sample.seconds, "route": name, "share": sample.share(*routes)}
        for sample, _rate in course(samples)
        for name, routes in _ROUTES.items()
    ]


_ROUTE_COLUMNS = (
    Column("seconds", "time", Unit.SECONDS),
    Column("route", "route"),
    Column("share", "of the pages there", Unit.SHARE),
)


def _route_table(arrivals: Sequence[_Arrival]) -> Table:
    return Table(
        "live_arrival_routes",
        "How the pages that have arrived are kept, with default",
        [Column("corpus", "corpus"), *_ROUTE_COLUMNS],
        [
            {"corpus": one.corpus, **row}
            for one in arrivals
            if one.recipe == _RECIPES[0]
            for row in _route_rows(one.samples)
        ],
        "Zero stands for pages of one repeated word as well.",
        detail=True,
    )


def _up(one: Recording) -> Sample | None:
    """The first sample after the guest said that it is at work."""
    moments = [event.seconds for event in one.events if event.text.split()[0] == _UP]
    later = [sample for sample in one.samples if moments and sample.seconds >= moments[0]]
    return later[0] if later else None


def _recording_table(recordings: Mapping[str, Recording]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in recordings.items():
        up, last = _up(one), one.samples[-1]
        peak = recording.peak_rate(one.samples)
        rows.append(
            {
                "recording": name,
                "recipe": one.about.get("recipe"),
                "seconds": last.seconds,
                "pages": last.total,
                "written": last.routed / max(1, last.total),
                "mean": recording.mean_rate(one.samples),
                "peak": peak,
                "over_scan": peak / _SCAN_RATE,
                "up": up.saving if up else None,
                "saving": last.saving,
                "identical": last.share("identical"),
                "patch": last.share("patch"),
                "memory": max(sample.daemon_rss for sample in one.samples),
            }
        )
    return Table(
        "live_recordings",
        "Running guests with their RAM on a mount",
        [
            Column("recording", "guest"),
            Column("recipe", "recipe"),
            Column("seconds", "seconds", Unit.SECONDS),
            Column("pages", "pages there", Unit.COUNT),
            Column("written", "times routed", Unit.FACTOR),
            Column("mean", "pages/s", Unit.RATE),
            Column("peak", "at most, for a second", Unit.RATE),
            Column("over_scan", "at most / ESX's", Unit.FACTOR),
            Column("up", "saving when up", Unit.SHARE),
            Column("saving", "at the end", Unit.SHARE),
            Column("identical", "identical pages", Unit.SHARE),
            Column("patch", "patched", Unit.SHARE),
            Column("memory", "daemon MiB", Unit.MEBIBYTES),
        ],
        rows,
        "Recorded by scripts/record-guest, from the boot on: a guest under QEMU whose writes the"
        f" kernel sends to the mount every so often. ESX scans at most {_SCAN_RATE:,} pages/s in"
        " the paper; here only what a guest has written is looked at, so that the rate is the"
        " guest's need and no bound. A page counts as often as it was routed.",
    )


def _event_table(recordings: Mapping[str, Recording]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in recordings.items():
        for event in one.events:
            before = [sample for sample in one.samples if sample.seconds <= event.seconds][-1:]
            rows.append(
                {
                    "recording": name,
                    "seconds": event.seconds,
                    "event": event.text,
                    "saving": before[0].saving if before else None,
                    "pages": before[0].total if before else None,
                }
            )
    return Table(
        "live_events",
        "What the guests told while they were recorded",
        [
            Column("recording", "guest"),
            Column("seconds", "time", Unit.SECONDS),
            Column("event", "event"),
            Column("pages", "pages there", Unit.COUNT),
            Column("saving", "saving", Unit.SHARE),
        ],
        rows,
        "Ready: the guest is up and at work. A round is one turn of its work.",
        detail=True,
    )


def _recording_course_table(recordings: Mapping[str, Recording]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in recordings.items():
        rows += [
            {
                "recording": name,
                "seconds": sample.seconds,
                "pages": sample.total,
                "saving": sample.saving,
                "rate": rate,
                "memory": sample.daemon_rss,
                "cached": sample.cached,
            }
            for sample, rate in course(one.samples)
        ]
    longest = max((one.samples[-1].seconds for one in recordings.values()), default=0.0)
    if rows:
        rows += [
            _scan_row(moment) | {"recording": _SCAN, "memory": None, "cached": None}
            for moment in (0, longest)
        ]
    return Table(
        "live_recording_course",
        "Saving and pages a second while guests run",
        [
            Column("recording", "guest"),
            Column("seconds", "time", Unit.SECONDS),
            Column("pages", "pages there", Unit.COUNT),
            Column("saving", "saving", Unit.SHARE),
            Column("rate", "pages/s", Unit.RATE),
            Column("memory", "daemon MiB", Unit.MEBIBYTES),
            Column("cached", "in the page cache, MiB", Unit.MEBIBYTES),
        ],
        rows,
        "Pages/s are those since the row before; ESX's are the paper's. What the kernel's page"
        " cache holds of the guest's RAM is on top of what is stored: nothing limited it here.",
        detail=True,
    )


def _recording_route_table(recordings: Mapping[str, Recording]) -> Table:
    return Table(
        "live_recording_routes",
        "How the pages of running guests are kept",
        [Column("recording", "guest"), *_ROUTE_COLUMNS],
        [
            {"recording": name, **row}
            for name, one in recordings.items()
            for row in _route_rows(one.samples)
        ],
        "Zero stands for pages of one repeated word as well.",
        detail=True,
    )


def _plots() -> list[Plot]:
    return [
        Plot(
            "live_arrival_saving",
            "Saving while a corpus arrives",
            PlotKind.LINES,
            "live_arrival_course",
            x="seconds",
            y="saving",
            series="recipe",
            panel="corpus",
        ),
        Plot(
            "live_arrival_rate",
            "Pages a second while a corpus arrives",
            PlotKind.LINES,
            "live_arrival_course",
            x="seconds",
            y="rate",
            series="recipe",
            panel="corpus",
        ),
        Plot(
            "live_arrival_routes",
            "How the pages that have arrived are kept, with default",
            PlotKind.LINES,
            "live_arrival_routes",
            x="seconds",
            y="share",
            series="route",
            panel="corpus",
        ),
        Plot(
            "live_recording_saving",
            "Saving while guests boot and work",
            PlotKind.LINES,
            "live_recording_course",
            x="seconds",
            y="saving",
            series="recording",
        ),
        Plot(
            "live_recording_rate",
            "Pages a second while guests boot and work",
            PlotKind.LINES,
            "live_recording_course",
            x="seconds",
            y="rate",
            series="recording",
        ),
        Plot(
            "live_recording_routes",
            "How the pages of running guests are kept",
            PlotKind.LINES,
            "live_recording_routes",
            x="seconds",
            y="share",
            series="route",
            panel="recording",
        ),
    ]


def _with_default(arrived: Table) -> list[Row]:
    """An arrival for each corpus of which there is one."""
    return arrived.select(recipe=_RECIPES[0])


def _about_arrivals(table: Table) -> list[str]:
    rows = _with_default(table)
    if not rows:
        return []
    corpora = [str(row["corpus"]) for row in rows]
    fast = [str(row["corpus"]) for row in rows if number(row["over_scan"]) >= 1]
    if fast:
        verdict = (
            f"keeps up with the {_SCAN_RATE:,} pages/s at which ESX scans{where(fast, corpora)}"
        )
    else:
        verdict = f"does not keep up with the {_SCAN_RATE:,} pages/s at which ESX scans"
    sharing = table.select(recipe=_RECIPES[-1])
    alone = (
        f", where sharing identical pages alone, as ESX does, saves"
        f" {span(table, 'saving', sharing)}"
        if sharing
        else ""
    )
    most = max(rows, key=lambda row: number(row["memory"]))
    return [
        f"A live mount with the recipe default {verdict}: it takes"
        f" {span(table, 'mean', rows, 'corpus')} pages/s, {span(table, 'over_scan', rows)} times as"
        f" many, with at most {table.text('memory', corpus=most['corpus'], recipe=_RECIPES[0])} MiB"
        f" of memory. In the end it has saved {span(table, 'saving', rows, 'corpus')}{alone}."
    ]


def _about_recordings(table: Table) -> list[str]:
    rows = table.rows
    if not rows:
        return []
    busy = [row for row in rows if number(row["over_scan"]) > 1]
    if not busy:
        compared = "not even what ESX scans"
    elif len(busy) == len(rows):
        compared = "more than ESX scans"
    else:
        compared = f"{span(table, 'over_scan', rows)} times what ESX scans"
    up = [row for row in rows if row["up"] is not None]
    when_up = f"{span(table, 'up', up)} when up and " if up else ""
    guest = "A running guest" if len(rows) == 1 else "Each running guest"
    return [
        f"{guest} with its RAM on a mount saved {when_up}{span(table, 'saving', rows)} in the end;"
        f" it wrote {span(table, 'mean', rows)} pages/s over all and {span(table, 'peak', rows)} in"
        f" its busiest second, {compared}."
    ]


def _arrival_finding(row: Row, table: Table) -> str:
    corpus = row["corpus"]

    def text(key: str, recipe: Cell = _RECIPES[0]) -> str:
        return table.text(key, corpus=corpus, recipe=recipe)

    others = [one["recipe"] for one in table.select(corpus=corpus) if one is not row]
    against = "".join(
        f", {text('mean', recipe)} with {recipe} for {text('saving', recipe)}" for recipe in others
    )
    return (
        f"On {corpus}, the mount takes {text('mean')} pages/s with default for a saving of"
        f" {text('saving')}{against}."
    )


def _recording_finding(row: Row, table: Table) -> str:
    def text(key: str) -> str:
        return table.text(key, recording=row["recording"])

    up = f"{text('up')} when it was up and " if row["up"] is not None else ""
    return (
        f"The guest {row['recording']} (recipe {text('recipe')}) saved {up}{text('saving')} at the"
        f" end, after {text('seconds')} s, with {text('identical')} of its pages shared and"
        f" {text('patch')} patched. Pages were written {text('written')} times each on"
        f" average, up to {text('peak')} of them in a second."
    )
