"""Tables as CSV, with the raw values: bytes as integers, shares from 0 to 1."""

from __future__ import annotations

import csv
from pathlib import Path

from difffs.study.result import Table


def write_csv(table: Table, path: Path) -> None:
    """Write a table; the first line has the columns' keys, a cell without value is empty."""
    keys = [column.key for column in table.columns]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(keys)
        for row in table.rows:
            writer.writerow(["" if row.get(key) is None else row[key] for key in keys])
