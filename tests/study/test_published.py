"""The reports in docs/study: whole, each of one run; their conclusions say what the tables say."""

import csv
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from difffs.study.recording import Recording
from difffs.study.result import Column, Section, Table, Unit
from difffs.study.sections import SECTIONS

STUDY = Path(__file__).parents[2] / "docs" / "study"


class Place(NamedTuple):
    """Where a report is, and what tells of its images."""

    folder: Path
    manifest: Path


REPORTS = {
    "report": Place(STUDY / "report", STUDY / "manifest.json"),
    "refining": Place(STUDY / "refining", STUDY / "refining" / "manifest.json"),
}
"""Questions 1 to 7, and 8 of images that were collected later."""


class Published(NamedTuple):
    """A report as it was written."""

    place: Place
    content: dict[str, Any]

    @property
    def sections(self) -> dict[str, Any]:
        """By name."""
        found: dict[str, Any] = self.content["sections"]
        return found


def published(name: str) -> Published:
    place = REPORTS[name]
    return Published(place, json.loads((place.folder / "report.json").read_text()))


@pytest.fixture(scope="module", params=REPORTS)
def report(request: pytest.FixtureRequest) -> Published:
    return published(request.param)


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


def test_each_question_is_answered_by_one_report() -> None:
    answers = [
        (entry["number"], name)
        for each in REPORTS
        for name, entry in published(each).sections.items()
    ]
    assert sorted(answers) == sorted(SECTIONS.items())


def test_every_number_of_the_conclusions_stands_in_a_table(report: Published) -> None:
    for name, entry in report.sections.items():
        assert section_of(entry, name).unsupported_numbers() == [], name


def test_the_readme_tells_the_conclusions_as_they_are(report: Published) -> None:
    told = " ".join((STUDY / "README.md").read_text().split())
    for entry in report.sections.values():
        assert f"{entry['number']}. **{entry['title']}.** {entry['conclusion']}" in told


def test_the_readme_leads_to_the_report(report: Published) -> None:
    assert f"({report.place.folder.name}/index.html)" in (STUDY / "README.md").read_text()


def test_tables_plots_and_page_are_there(report: Published) -> None:
    folder = report.place.folder
    page = (folder / "index.html").read_text()
    for name, entry in report.sections.items():
        assert f'id="{name}"' in page
        for table_name, table in entry["tables"].items():
            with (folder / f"{table_name}.csv").open(newline="") as file:
                rows = list(csv.reader(file))
            assert rows[0] == [column["key"] for column in table["columns"]]
            assert len(rows) == 1 + len(table["rows"]), table_name
    assert len(list(folder.glob("*.svg"))) == page.count("<svg ") > len(report.sections)


def files() -> Iterator[Path]:
    yield from chain.from_iterable(place.folder.iterdir() for place in REPORTS.values())
    yield from (STUDY / "recordings").iterdir()
    yield STUDY / "manifest.json"


def test_nothing_names_a_place_of_the_machine_that_made_it() -> None:
    for path in files():
        text = path.read_text()
        for place in ("/dev/shm", "/tmp", "/root", "/home"):
            assert place not in text, path.name


def test_every_image_is_in_the_manifest(report: Published) -> None:
    manifest = json.loads(report.place.manifest.read_text())
    known = {image["sha256"]: image for image in manifest["images"]}
    images = report.content["images"]
    assert {image["sha256"] for image in images} == set(known)
    assert {image["corpus"] for image in images} == {"ident", "mixed-1", "mixed-2", "series"}
    assert len({image["release"] for image in known.values()}) >= 3
    assert all(image["zero_page_share"] < 0.3 for image in known.values())


def test_recordings_are_those_of_the_command() -> None:
    recordings = sorted((STUDY / "recordings").glob("*.jsonl"))
    assert recordings
    for path in recordings:
        assert Recording.read(path).samples
        assert f"--recording {path.name}" in published("report").content["command"]
