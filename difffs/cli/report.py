"""What the reporting commands share: JSON on stdout, a store's state as one line."""

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
