"""The demo's words: progress lines while it runs, and the table at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROUTES = ("zero", "same", "identical", "patch", "compress", "raw")


@dataclass(slots=True)
class Part:
    """One part of the demo: how it went, in how many seconds."""

    name: str
    seconds: float
    outcome: str


class Progress:
    """Lines on stderr, each with the seconds since the start."""

    def __init__(self, begin: float) -> None:
        self._begin = begin

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"[{time.time() - self._begin:6.1f} s] {text}", file=sys.stderr, flush=True)


def mebibytes(count: int) -> str:
    """Render bytes in MiB with one digit."""
    return f"{count / 2**20:,.1f} MiB"


def columns(rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Align rows of words; the first ``left`` columns to the left, the others to the right."""
    kept = [list(row) for row in rows]
    widths = [max(len(row[at]) for row in kept if at < len(row)) for at in range(len(kept[0]))]
    lines = []
    for row in kept:
        cells = (
            word.ljust(width) if at < left else word.rjust(width)
            for at, (word, width) in enumerate(zip(row, widths, strict=False))
        )
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def table(statistics: Mapping[str, Any], parts: Sequence[Part]) -> str:
    """Render what ``difffs stats --json`` says, and the parts of the demo."""
    pages: Mapping[str, int] = statistics["pages"]
    sizes: Mapping[str, int] = statistics["bytes"]
    total = pages["total"] or 1
    rows = [["pages by route", "pages", "share"]]
    rows += [[route, f"{pages[route]:,}", f"{pages[route] / total:.1%}"] for route in ROUTES]
    rows.append(["all", f"{pages['total']:,}", "100.0%"])
    lines = [*columns(rows), ""]
    lines += columns(
        [
            ["bytes", ""],
            ["logical", mebibytes(sizes["logical"])],
            ["payload", mebibytes(sizes["payload"])],
            ["slack", mebibytes(sizes["slack"])],
            ["metadata", mebibytes(sizes["metadata"])],
            ["stored (all three)", mebibytes(sizes["stored"])],
            ["factor (logical / stored)", f"{statistics['factor']:.2f}"],
        ]
    )
    lines += ["", *part_lines(parts)]
    return "\n".join(lines)


def part_lines(parts: Sequence[Part]) -> list[str]:
    """Render the parts with their times."""
    longest = max(len(part.name) for part in parts)
    return [f"  {'part'.ljust(longest)}  seconds  outcome"] + [
        f"  {part.name.ljust(longest)}  {part.seconds:7.1f}  {part.outcome}" for part in parts
    ]
