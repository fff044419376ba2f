"""A report of ``scripts/bench --json`` as Markdown tables, for docs/performance.md.

``PYTHONPATH=scripts python -m benchmark.markdown REPORT.json...``; of a part that several reports
have, the last counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.result import number


def _verdict(ratio: dict[str, Any]) -> str:
    return {True: "met", False: "**not met**", None: ""}[ratio["met"]]


def targets(parts: dict[str, Any]) -> Iterator[str]:
    """Yield the table of the ratios that have a goal."""
    yield "| target | figure | goal | measured | |"
    yield "|---|---|---|---|---|"
    for part in parts.values():
        for ratio in part["ratios"]:
            if ratio["goal"] is not None:
                goal = f"{'≤' if ratio['at_most'] else '≥'} {ratio['goal']:g}"
                cells = (ratio["target"] or "", ratio["subject"], goal, f"{ratio['value']:.2f}")
                yield "| " + " | ".join(map(str, (*cells, _verdict(ratio)))) + " |"


def figures(part: dict[str, Any]) -> Iterator[str]:
    """Yield one Markdown table for each table of a part."""
    for table in dict.fromkeys(figure["table"] for figure in part["figures"]):
        those = [figure for figure in part["figures"] if figure["table"] == table]
        contenders = list(dict.fromkeys(figure["contender"] for figure in those))
        yield f"| {table} | " + " | ".join(contenders) + " |"
        yield "|---" * (len(contenders) + 1) + "|"
        for subject in dict.fromkeys(figure["subject"] for figure in those):
            found = {f["contender"]: f for f in those if f["subject"] == subject}
            cells = [
                f"{number(found[name]['median'])} {found[name]['unit']}".strip()
                if name in found
                else ""
                for name in contenders
            ]
            yield f"| {subject} | " + " | ".join(cells) + " |"
        yield ""


def main(arguments: list[str]) -> int:
    """Run as a command."""
    parts: dict[str, Any] = {}
    for path in arguments:
        report = json.loads(Path(path).read_text())
        parts |= report["parts"]
    print("\n".join(targets(parts)))
    for name, part in parts.items():
        before, after = part["load"]
        print(f"\n### {name} (load average {before:.2f} before, {after:.2f} after)\n")
        print("\n".join(figures(part)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
