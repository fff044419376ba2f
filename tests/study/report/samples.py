"""A study's outcome, made up: units, kinds of plots, and text that HTML would take amiss."""

from typing import Any

from difffs.study.result import Column, Plot, PlotKind, Section, Table, Unit

AWKWARD = 'a <b> & "c"'

TABLE = Table(
    "sizes",
    "Sizes of <pages>",
    [
        Column("corpus", "corpus"),
        Column("codec", "codec & level"),
        Column("time", "time", Unit.SECONDS),
        Column("us", "encode", Unit.MICROSECONDS),
        Column("share", "share", Unit.SHARE),
        Column("stored", "stored", Unit.MEBIBYTES),
        Column("factor", "factor", Unit.FACTOR),
    ],
    [
        {
            "corpus": corpus,
            "codec": codec,
            "time": seconds,
            "us": 10.0 ** (number + 1),
            "share": (number - 1.5) / 3,
            "stored": (number + 2) * 1_234_567,
            "factor": 1.5 + number + seconds if codec != "raw" else None,
        }
        for corpus in ("one", AWKWARD)
        for number, codec in enumerate(("zstd 1", "lz4", AWKWARD, "raw"))
        for seconds in (0, 1, 2.5)
    ],
    "Measured > once.",
)
DETAIL = Table("course", "Over time", TABLE.columns, TABLE.rows[:5], detail=True)
IMAGES = [
    {"corpus": "one", "name": AWKWARD, "file": "x", "pages": 65536, "sha256": "ab" * 32},
    {"corpus": AWKWARD, "name": "two", "file": "y", "pages": 1, "sha256": "cd" * 32},
]
REPORT: dict[str, Any] = {
    "schema_version": 1,
    "made": "2026-01-01T00:00:00+00:00",
    "command": f"difffs study '{AWKWARD}'",
    "machine": {
        "processor": AWKWARD,
        "cores": 2,
        "memory": 4 << 30,
        "kernel": "6.1",
        "python": "3.11",
        "difffs": "0.1",
    },
    "sample": 3000,
    "seed": 1,
    "images": IMAGES,
    "manifest": [
        {
            "sha256": "ab" * 32,
            "release": "12",
            "kernel": "6.1.0-50",
            "workload": "compile",
            "seconds": 145.8,
            "zero_page_share": 0.0721,
        }
    ],
    "recipes": {},
    "sections": {},
}


def plots() -> list[Plot]:
    """One of each kind, with and without panels and logarithms."""
    first = {"corpus": "one"}
    return [
        Plot("bars", "Bars", PlotKind.BARS, "sizes", "codec", "stored", panel="corpus"),
        Plot("grouped", "G", PlotKind.BARS, "sizes", "codec", "us", "time", logarithmic=True),
        Plot("stack", "Stack", PlotKind.STACK, "sizes", "corpus", "share", "codec"),
        Plot("lines", "Lines <&>", PlotKind.LINES, "sizes", "time", "factor", "codec", "corpus"),
        Plot("line", "L", PlotKind.LINES, "sizes", "time", "us", "codec", where=first),
        Plot("points", "P", PlotKind.POINTS, "sizes", "us", "factor", "codec", logarithmic=True),
        Plot("heat", "Heat", PlotKind.HEAT, "sizes", "codec", "stored", "time", "corpus"),
        Plot("warm", "Warm", PlotKind.HEAT, "sizes", "codec", "us", "time", logarithmic=True),
    ]


def section() -> Section:
    """A section with all of that."""
    return Section(
        3,
        "sizes",
        f"How large is {AWKWARD}?",
        [TABLE, DETAIL],
        plots(),
        f"It is {AWKWARD}.",
        ["On one, <i>so</i>.", "On two, not."],
        ["zram: <none> & nothing"],
    )
