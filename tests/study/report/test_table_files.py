"""Tables as CSV: raw values that programs read back."""

import csv
from dataclasses import replace
from pathlib import Path

from difffs.study.report.table_files import write_csv
from difffs.study.result import Cell
from tests.study.report.samples import TABLE


def test_values_are_raw_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    write_csv(TABLE, path)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(TABLE.rows)
    for found, row in zip(read, TABLE.rows, strict=True):
        assert list(found) == [column.key for column in TABLE.columns]
        for column in TABLE.columns:
            value = row[column.key]
            if value is None:
                assert found[column.key] == ""
            elif isinstance(value, str):
                assert found[column.key] == value
            else:
                assert float(found[column.key]) == value, "not rounded, in bytes, shares below 1"


def test_only_columns_are_written(tmp_path: Path) -> None:
    rows: list[dict[str, Cell]] = [{"corpus": "one", "hidden": 7}]
    write_csv(replace(TABLE, columns=TABLE.columns[:2], rows=rows), tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_bytes() == b"corpus,codec\none,\n"
