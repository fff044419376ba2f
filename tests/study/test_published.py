"""The report in docs/study: whole, of one run, and its conclusions say what its tables say."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from difffs.study.recording import Recording
from difffs.study.result import Column, Section, Table, Unit
from difffs.study.sections import SECTIONS

STUDY = Path(__file__).parents[2] / "docs" / "study"
FOLDER = STUDY / "report"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "report.json").read_text())
    return found


def section_of(entry: dict[str, Any], name: str) -> Section:
    """A section as it was when the report was written, without its plots."""
    tables = [
        Table(
            table_name,
            table["title"],
            [Column(c["key"], c["title"], Unit(c["unit"])) for c in table["columns"]],
            table["rows"],
            table["note"],
        )
        for table_name, table in entry["tables"].items()
    ]
    return Section(
        entry["number"], name, entry["title"], tables, [], entry["conclusion"], entry["findings"]
    )


def test_all_questions_but_the_last_are_answered(report: dict[str, Any]) -> None:
    """The eighth came later: it is no part of this report."""
    expected = {number: name for number, name in SECTIONS.items() if number != 8}
    assert {entry["number"]: name for name, entry in report["sections"].items()} == expected


def test_every_number_of_the_conclusions_stands_in_a_table(report: dict[str, Any]) -> None:
    for name, entry in report["sections"].items():
        assert section_of(entry, name).unsupported_numbers() == [], name


def test_the_readme_tells_the_conclusions_as_they_are(report: dict[str, Any]) -> None:
    told = " ".join((STUDY / "README.md").read_text().split())
    for entry in report["sections"].values():
        assert f"{entry['number']}. **{entry['title']}.** {entry['conclusion']}" in told


def test_tables_plots_and_page_are_there(report: dict[str, Any]) -> None:
    page = (FOLDER / "index.html").read_text()
    for name, entry in report["sections"].items():
        assert f'id="{name}"' in page
        for table_name, table in entry["tables"].items():
            with (FOLDER / f"{table_name}.csv").open(newline="") as file:
                rows = list(csv.reader(file))
            assert rows[0] == [column["key"] for column in table["columns"]]
            assert len(rows) == 1 + len(table["rows"]), table_name
    assert len(list(FOLDER.glob("*.svg"))) == page.count("<svg ") > len(SECTIONS)


def test_nothing_names_a_place_of_the_machine_that_made_it() -> None:
    for path in [*FOLDER.iterdir(), *(STUDY / "recordings").iterdir(), STUDY / "manifest.json"]:
        text = path.read_text()
        for place in ("/dev/shm", "/tmp", "/root", "/home"):
            assert place not in text, path.name


def test_every_image_is_in_the_manifest(report: dict[str, Any]) -> None:
    manifest = json.loads((STUDY / "manifest.json").read_text())
    known = {image["sha256"]: image for image in manifest["images"]}
    assert {image["sha256"] for image in report["images"]} == set(known)
    assert {image["corpus"] for image in report["images"]} == {
        "ident",
        "mixed-1",
        "mixed-2",
        "series",
    }
    assert len({image["release"] for image in known.values()}) >= 3
    assert all(image["zero_page_share"] < 0.3 for image in known.values())


def test_recordings_are_those_of_the_command(report: dict[str, Any]) -> None:
    recordings = sorted((STUDY / "recordings").glob("*.jsonl"))
    assert recordings
    for path in recordings:
        assert Recording.read(path).samples
        assert f"--recording {path.name}" in report["command"]
