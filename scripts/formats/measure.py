"""What the files that make-formats has written cost in a store: the table of docs/image-formats.md.

    PYTHONPATH=scripts .venv/bin/python -m formats.measure FOLDER [--json]

Imports each file into a store of its own on a tmpfs, and behind it the same guest's next image;
then all files of one pause into one store. Compared with the raw memory of the same pause.
Everything is read back and compared by the import itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from formats.manifest import FILE_NAME

_RAW = "raw"


def imported(store: Path, image: Path, name: str) -> dict[str, Any]:
    """What ``difffs import --json`` says."""
    words = ["import", "--json", str(store), str(image), "--as", name]
    command = [sys.executable, "-m", "difffs", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def stored(report: dict[str, Any]) -> int:
    """Bytes that the store has after it."""
    value: int = report["store"]["bytes"]["stored"]
    return value


def measured(folder: Path, files: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """A row for each file of the first pause."""
    second = {(one["guest"], one["format"]): one for one in files if one["pause"] == 2}
    rows = []
    first = [one for one in files if one["pause"] == 1]
    for one in sorted(first, key=lambda each: each["format"] != _RAW):
        store = scratch / f"{one['file']}.store"
        report = imported(store, folder / one["file"], "first")
        before = stored(report)
        row = {
            "file": one["file"],
            "guest": one["guest"],
            "format": one["format"],
            "bytes": one["bytes"],
            "stored": before,
            "seconds": report["volumes"][0]["seconds"],
            "second": None,
        }
        following = second.get((one["guest"], one["format"]))
        if following is not None:
            row["second"] = stored(imported(store, folder / following["file"], "second")) - before
        rows.append(row)
    return rows


def in_one_store(folder: Path, files: list[dict[str, Any]], scratch: Path) -> dict[str, float]:
    """For each guest the room of all its images of the first pause, by that of the raw memory."""
    ratios: dict[str, float] = {}
    for guest in sorted({one["guest"] for one in files}):
        mine = [one for one in files if one["guest"] == guest and one["pause"] == 1]
        mine.sort(key=lambda each: each["format"] != _RAW)
        sizes = [
            stored(imported(scratch / f"{guest}.all", folder / one["file"], one["format"]))
            for one in mine
        ]
        ratios[guest] = sizes[-1] / sizes[0]
    return ratios


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="formats.measure", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    files = json.loads((arguments.folder / FILE_NAME).read_text())["files"]
    with tempfile.TemporaryDirectory(prefix="difffs-measure-", dir="/dev/shm") as name:
        rows = measured(arguments.folder, files, Path(name))
        together = in_one_store(arguments.folder, files, Path(name))
    if arguments.json:
        print(json.dumps({"schema_version": 1, "files": rows, "in_one_store": together}))
        return 0
    raw = {row["guest"]: row for row in rows if row["format"] == _RAW}
    print("| file | size, MB | density | second | time, by raw |\n|---|---|---|---|---|")
    for row in rows:
        base = raw[row["guest"]]
        second = f"{row['second'] / base['second']:.2f}" if row["second"] else "-"
        print(
            f"| {row['file']} | {row['bytes'] / 1e6:.0f} | {base['stored'] / row['stored']:.3f}"
            f" | {second} | {row['seconds'] / base['seconds']:.1f} |"
        )
    for guest, ratio in together.items():
        print(f"\n{guest}: all in one store take {ratio:.3f} times the room of the raw memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
