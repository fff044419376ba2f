"""Results of passes without what differs between two runs on the same images: times, and the memory
that a process happened to take."""

import json
from pathlib import Path
from typing import Any

TIMES = {"decode_us", "encode_us", "lookup_us", "seconds", "since", "sketch_us", "try_us"}
TIMES |= {"pages_per_second", "peak_rss", "memory", "steps"}


def without_times(value: Any) -> Any:
    """The value with None in place of each time."""
    if isinstance(value, dict):
        return {key: None if key in TIMES else without_times(one) for key, one in value.items()}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def with_times_of(other: Any, value: Any) -> Any:
    """The value with the times of another one of its form."""
    if isinstance(value, dict):
        return {
            key: other[key] if key in TIMES else with_times_of(other[key], one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [with_times_of(theirs, ours) for theirs, ours in zip(other, value, strict=True)]
    return value


def results_of(folder: Path) -> dict[str, bytes]:
    """All results in a cache's folder: their files, those of JSON without times."""
    return {
        path.name: json.dumps(without_times(json.loads(path.read_bytes()))).encode()
        if path.suffix == ".json"
        else path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".")
    }
