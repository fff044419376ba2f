"""What the files that make-formats has written cost in a store: the table of docs/image-formats.md.

    PYTHONPATH=scripts .venv/bin/python -m formats.measure FOLDER [--json]

Imports each file into a store of its own on a tmpfs, and behind it the same guest's next image;
then all files of one pause into one store. Compared with the raw memory of the same pause.
Everything is read back and compared by the import itself. Each image is exported too, in the form
that it comes back in by itself, which must be its own bytes or the unpacked form.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from formats.manifest import FILE_NAME

_RAW = "raw"


def difffs(*words: str | Path) -> dict[str, Any]:
    """What a command with ``--json`` says; `processor` are the seconds that it took of it, `peak`
    the memory of its largest process in bytes."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "difffs", *map(str, words), "--json"], stdout=output
        )
        _process, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        output.seek(0)
        report: dict[str, Any] = json.load(output)
    return {
        **report,
        "processor": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
    }


def imported(store: Path, image: Path, name: str) -> dict[str, Any]:
    """What ``difffs import`` says."""
    return difffs("import", store, image, "--as", name)


def exported(store: Path, image: Path, name: str, scratch: Path) -> dict[str, Any]:
    """What ``difffs export`` says, once what it calls original is found to be that."""
    again = scratch / "exported"
    report = difffs("export", store, name, again)
    if report["form"] == "original" and not filecmp.cmp(image, again, shallow=False):
        raise AssertionError(f"{image} came back otherwise")
    again.unlink()
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
        back = exported(store, folder / one["file"], "first", scratch)
        row = {
            "file": one["file"],
            "guest": one["guest"],
            "format": one["format"],
            "bytes": one["bytes"],
            "stored": before,
            "seconds": report["processor"],
            "peak": report["peak"],
            "form": back["form"],
            "export_seconds": back["processor"],
            "export_peak": back["peak"],
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
    print("| file | size, MB | density | second | import | peak, MB | export | peak, MB | form |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        base = raw[row["guest"]]
        second = f"{row['second'] / base['second']:.2f}" if row["second"] else "-"
        print(
            f"| {row['file']} | {row['bytes'] / 1e6:.0f} | {base['stored'] / row['stored']:.3f}"
            f" | {second} | {row['seconds']:.1f} s | {row['peak'] / 1e6:.0f}"
            f" | {row['export_seconds']:.1f} s | {row['export_peak'] / 1e6:.0f} | {row['form']} |"
        )
    for guest, ratio in together.items():
        print(f"\n{guest}: all in one store take {ratio:.3f} times the room of the raw memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
