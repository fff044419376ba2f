"""The page: complete, escaped, and in need of nothing but its own tables."""

import json
import re
from collections import Counter
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from difffs.errors import UsageError
from difffs.study.report import write_report
from difffs.study.report.page import render_page
from difffs.study.result import Table, show
from tests.study.report.samples import AWKWARD, DETAIL, REPORT, TABLE, section

_VOID = {"meta", "br", "hr", "img", "link", "input"}
_REFERENCES = ("href", "src", "xlink:href", "srcset", "action", "data", "poster")


class Reader(HTMLParser):
    """Checks that elements close in order; keeps references, ids outside drawings, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            drawn = "svg" in self._open and value and value.startswith(("#", "data:"))
            if name in _REFERENCES and value and not drawn:
                self.references.append(value)
            if name == "id" and value and "svg" not in self._open:
                self.ids.append(value)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "svg" not in self._open and "style" not in self._open:
            self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole report."""
    made = tmp_path_factory.mktemp("made") / "when" / "missing"
    compared = replace(TABLE, name="recipes", title="Named recipes")
    assert write_report(made, REPORT, [section()], [compared]) == made / "index.html"
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "index.html").read_text()


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def test_all_files_are_there(folder: Path) -> None:
    drawings = {f"{plot.name}.svg" for plot in section().plots}
    tables = {"recipes.csv", "sizes.csv", "course.csv", "images.csv"}
    names = {path.name for path in folder.iterdir()}
    assert names == {"index.html", "report.json", *drawings, *tables}
    assert json.loads((folder / "report.json").read_text()) == REPORT


def test_it_refers_to_nothing_but_its_tables_and_itself(
    folder: Path, page: str, read: Reader
) -> None:
    inside = {reference for reference in read.references if reference.startswith("#")}
    outside = set(read.references) - inside
    assert {reference[1:] for reference in inside} <= set(read.ids)
    assert outside == {path.name for path in folder.glob("*.csv")}
    assert not re.search(r"@import|url\((?!#)|<script|<link", page)


def test_every_reference_leads_somewhere(folder: Path, read: Reader) -> None:
    for reference in read.references:
        assert reference.startswith("#") or (folder / reference).is_file(), reference


def test_an_id_is_there_once(read: Reader) -> None:
    assert {"brief", "sizes", "table-sizes", "table-recipes", "origin"} <= set(read.ids)
    assert "#sizes" in read.references
    assert max(Counter(read.ids).values()) == 1


def test_text_is_escaped(page: str, read: Reader) -> None:
    assert AWKWARD not in page
    assert f"How large is {AWKWARD}?" in read.text
    assert read.text.count(f"It is {AWKWARD}.") == 2, "in brief and in its section"
    assert "On one, <i>so</i>." in read.text
    assert "zram: <none> & nothing" in read.text
    assert "Sizes of <pages>" in read.text
    assert read.tags["b"] == read.tags["i"] == 0


def test_drawings_and_tables_are_in_it(folder: Path, page: str, read: Reader) -> None:
    assert read.tags["svg"] == len(section().plots)
    for drawing in folder.glob("*.svg"):
        assert drawing.read_text() in page
    assert read.tags["table"] == 4, "recipes, two of the section, images"
    assert read.tags["details"] == 1
    assert f"{len(DETAIL.rows)} rows" in read.text
    for row in TABLE.rows:
        for column in TABLE.columns:
            assert show(row[column.key], column.unit) in read.text


def test_images_and_machine_are_told(read: Reader) -> None:
    for text in ("2 memory images (256 MiB) in 2 corpora", "4,096 MiB", "Linux 6.1", "7.2 %"):
        assert text in read.text
    for text in ("compile", "145.8", "abababababababab", "3,000 pages or pairs a corpus"):
        assert text in read.text


def test_a_page_of_one_question_is_called_like_it() -> None:
    one = replace(section(), plots=[])
    two = replace(one, number=2, name="other")
    called = [
        re.findall("<h1>(.*?)</h1>", render_page(REPORT, sections, [], {}))
        for sections in ([one], [one, two], [])
    ]
    every = ["What is each mechanism worth?"]
    assert called == [[f"How large is {escape(AWKWARD)}?"], every, every]


def test_the_machines_of_a_cluster_are_told() -> None:
    machine = {**REPORT["machine"], "processor": "<fast>"}
    workers = [{**machine, "workers": 3}, {**machine, "cores": 96, "workers": 1}]
    text = Reader(render_page({**REPORT, "workers": workers}, [], [], {})).text
    assert f"3 workers on <fast>, {machine['cores']} cores" in text
    assert "1 worker on <fast>, 96 cores" in text


def test_without_sections_it_is_a_page_as_well() -> None:
    tables: list[Table] = []
    read = Reader(render_page({**REPORT, "images": REPORT["images"][:1]}, [], tables, {}))
    assert "difffs study of 1 memory image (256 MiB) in 1 corpus: one" in read.text
    assert "#table-recipes" not in read.references
    assert "In brief" not in read.text


def test_a_section_begins_with_what_was_found(page: str) -> None:
    places = [
        page.index(part)
        for part in (
            '<h2 id="brief">',
            '<h2 id="sizes">',
            '<p class="lead">',
            '<ul class="findings"><li>On one',
            "<figure>",
            '<h3 id="table-sizes">',
        )
    ]
    assert places == sorted(places)
    without = replace(section(), findings=(), plots=[])
    assert 'class="findings"' not in render_page(REPORT, [without], [], {})


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file cannot be written.*--report"):
        write_report(tmp_path / "file", REPORT, [], [])
