"""What the reporting commands share: JSON on stdout, a store's state and a name as one line."""

import json
import sys
from typing import Any

from difffs.size import format_size

SCHEMA_VERSION = 1
"""Of the objects that the commands make themselves; stats has its own."""


def print_json(report: dict[str, Any], *, indent: int | None = 2) -> None:
    """Write one object to stdout."""
    json.dump(report, sys.stdout, indent=indent)
    sys.stdout.write("\n")
    sys.stdout.flush()


def state_line(statistics: dict[str, Any]) -> str:
    """Return ``512 MiB in 92.1 MiB, factor 5.56``."""
    sizes = statistics["bytes"]
    return (
        f"{format_size(sizes['logical'])} in {format_size(sizes['stored'])}, "
        f"factor {statistics['factor']:.2f}"
    )


def printable(name: str) -> str:
    """Return the name on one line: control characters as escapes, bytes that are no UTF-8 kept."""
    return "".join(
        letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else ascii(letter)[1:-1]
        for letter in name
    )
