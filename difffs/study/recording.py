"""Recordings of a live mount: its statistics, sampled while pages arrive.

``scripts/record-guest`` writes them as JSON lines: a header, then samples and events in order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from difffs.errors import UsageError

SCHEMA_VERSION = 1
ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")
PEAK_SECONDS = 1.0
"""Rates are peaks only when they hold that long."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a mount told at one moment. Bytes and pages."""

    seconds: float
    """Since the recording began."""
    logical: int
    stored: int
    routed: int
    """Pages that have been routed so far; a page written three times counts three times."""
    pages: Mapping[str, int]
    """Mapped pages by route."""
    daemon_rss: int
    write_buffer: int
    cached: int = 0
    """Of the volumes, how much the kernel's page cache holds; 0 where nobody looked."""

    @property
    def saving(self) -> float:
        """1 - stored / logical; 0 before anything is there, negative while metadata outweighs."""
        return 1 - self.stored / self.logical if self.logical else 0.0

    @property
    def total(self) -> int:
        """All mapped pages."""
        return sum(self.pages.values())

    def share(self, *routes: str) -> float:
        """The share of the mapped pages that took one of these routes."""
        return sum(self.pages[route] for route in routes) / max(1, self.total)


def sample(statistics: Mapping[str, Any], seconds: float, cached: int = 0) -> Sample:
    """Make a sample of what ``difffs stats MOUNTPOINT --json`` says."""
    return Sample(
        seconds=seconds,
        logical=statistics["bytes"]["logical"],
        stored=statistics["bytes"]["stored"],
        routed=sum(statistics["routes"][route]["count"] for route in ROUTES),
        pages={route: statistics["pages"][route] for route in ROUTES},
        daemon_rss=statistics["memory"]["daemon_rss"],
        write_buffer=statistics["memory"]["write_buffer"],
        cached=cached,
    )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to what was recorded: the guest was up, a round of work was done."""

    seconds: float
    text: str


@dataclass(slots=True)
class Recording:
    """A whole recording."""

    name: str
    about: Mapping[str, Any] = field(default_factory=dict)
    """The guest, its work, the host: for readers."""
    samples: list[Sample] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def begin(self, file: TextIO) -> None:
        """Write the header; samples and events follow by append()."""
        header = {"schema_version": SCHEMA_VERSION, "name": self.name, "about": self.about}
        _write(file, header)

    def append(self, file: TextIO, item: Sample | Event) -> None:
        """Add a sample or an event, and write it."""
        if isinstance(item, Sample):
            self.samples.append(item)
            _write(file, {"sample": asdict(item)})
        else:
            self.events.append(item)
            _write(file, {"event": asdict(item)})

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read a file. UsageError when it is no recording; a last line cut short is left out."""
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"recording {path} cannot be read: {error}") from None
        try:
            header = json.loads(lines[0])
            if header["schema_version"] != SCHEMA_VERSION:
                raise UsageError(f"recording {path} has schema {header['schema_version']}")
            found = cls(header["name"], header["about"])
            for line in lines[1:]:
                if line is lines[-1] and not line.endswith("}"):
                    break
                entry = json.loads(line)
                if "sample" in entry:
                    found.samples.append(Sample(**entry["sample"]))
                else:
                    found.events.append(Event(**entry["event"]))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UsageError(
                f"recording {path} is none of scripts/record-guest: {error!r}"
            ) from None
        return found


def _write(file: TextIO, entry: object) -> None:
    file.write(json.dumps(entry, separators=(",", ":")) + "\n")
    file.flush()


def from_json(entries: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """Samples that were written with dataclasses.asdict."""
    known = {one.name for one in fields(Sample)}
    return [Sample(**{key: entry[key] for key in known}) for entry in entries]


def rate(earlier: Sample, later: Sample) -> float:
    """Pages routed a second from one sample to the other."""
    return (later.routed - earlier.routed) / max(later.seconds - earlier.seconds, 1e-9)


def mean_rate(samples: Sequence[Sample]) -> float:
    """Pages routed a second over all samples; 0 for fewer than two."""
    return rate(samples[0], samples[-1]) if len(samples) > 1 else 0.0


def peak_rate(samples: Sequence[Sample], seconds: float = PEAK_SECONDS) -> float:
    """The highest rate between a sample and the nearest one that is `seconds` before it; at least
    the mean.
    """
    best = mean_rate(samples)
    begin = 0
    for later in samples:
        while samples[begin + 1 :] and later.seconds - samples[begin + 1].seconds >= seconds:
            begin += 1
        if later.seconds - samples[begin].seconds >= seconds:
            best = max(best, rate(samples[begin], later))
    return best


def thin(samples: Sequence[Sample], count: int) -> list[Sample]:
    """At most `count` samples, evenly spread in time, the first and the last among them."""
    if len(samples) <= count:
        return list(samples)
    first, last = samples[0].seconds, samples[-1].seconds
    chosen = [samples[0]]
    for one in samples[1:-1]:
        due = first + (last - first) * len(chosen) / (count - 1)
        if one.seconds >= due and len(chosen) < count - 1:
            chosen.append(one)
    return [*chosen, samples[-1]]
