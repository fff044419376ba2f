"""The study as a whole: sections by number, recipes compared, one JSON object of it all."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from difffs.errors import UsageError
from difffs.study import sections, study
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.importing import merge_imports
from difffs.study.result import Column, Section, Table, Unit

COMPARED = ("default", "identical-only")


def made_up(number: int, name: str) -> SimpleNamespace:
    """A section's module that answers with the names of the corpora."""

    def run(context: Context) -> Section:
        table = Table(
            f"{name}-sizes",
            "Sizes",
            [Column("corpus", "corpus"), Column("bytes", "bytes", Unit.BYTES)],
            [{"corpus": corpus.name, "bytes": corpus.bytes} for corpus in context.corpora],
            "As they are.",
        )
        return Section(
            number, name, name.title(), [table], [], "Large.", ["Larger."], ["zram: none"]
        )

    return SimpleNamespace(NUMBER=number, NAME=name, TITLE=name.title(), run=run)


@pytest.fixture
def made_up_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions 2 and 5, in place of the real ones."""
    monkeypatch.setattr(sections, "SECTIONS", {2: "second", 5: "fifth"})
    for number, name in sections.SECTIONS.items():
        monkeypatch.setitem(
            sys.modules,
            f"difffs.study.sections.{name}",
            made_up(number, name),
        )


@pytest.fixture
def compared(context: Context) -> dict[str, dict[str, Result]]:
    return study.compare_recipes(context, COMPARED)


def test_every_section_has_what_the_study_needs() -> None:
    modules = study.section_modules()
    assert [module.NUMBER for module in modules] == list(sections.SECTIONS)
    assert [module.NUMBER for module in modules] == sorted(sections.SECTIONS)
    assert len({module.NAME for module in modules}) == len(modules)
    for module in modules:
        assert module.TITLE
        assert callable(module.run)


@pytest.mark.usefixtures("made_up_sections")
def test_questions_are_chosen_by_number() -> None:
    assert [module.NAME for module in study.section_modules()] == ["second", "fifth"]
    assert [module.NAME for module in study.section_modules([5])] == ["fifth"]
    assert [module.NAME for module in study.section_modules([5, 2])] == ["second", "fifth"]
    with pytest.raises(UsageError, match="no question 3; there are 2, 5"):
        study.section_modules([2, 3])


@pytest.mark.usefixtures("made_up_sections")
def test_answers_are_handed_out_as_they_come(context: Context) -> None:
    seen: list[Section] = []
    answers = study.answer(context, done=seen.append)
    assert answers == seen
    assert [answer.name for answer in answers] == ["second", "fifth"]
    assert all(answer.seconds > 0 for answer in answers)
    assert [answer.name for answer in study.answer(context, [2])] == ["second"]


def test_recipes_are_compared_on_each_corpus(
    context: Context, compared: dict[str, dict[str, Result]]
) -> None:
    assert list(compared) == list(COMPARED)
    for results in compared.values():
        for corpus in context.corpora:
            result = results[corpus.name]
            assert result["pages"]["total"] == corpus.pages
    alike = {name: results["alike"]["factor"] for name, results in compared.items()}
    assert alike["default"] > alike["identical-only"] > 1


def test_a_recipe_that_there_is_not_is_named(context: Context) -> None:
    with pytest.raises(UsageError, match=r"no recipe 'dafault'; there are: default, "):
        study.compare_recipes(context, ["default", "dafault"])


def test_the_table_of_recipes_goes_corpus_by_corpus(
    context: Context, compared: dict[str, dict[str, Result]]
) -> None:
    table = study.recipe_table(compared)
    assert [(row["corpus"], row["recipe"]) for row in table.rows] == [
        (corpus.name, recipe) for corpus in context.corpora for recipe in COMPARED
    ]
    for row in table.rows:
        result = compared[str(row["recipe"])][str(row["corpus"])]
        assert row["factor"] == result["factor"]
        assert row["stored"] == result["bytes"]["stored"]
        assert row["patch"] == result["pages"]["patch"]
        assert {column.key for column in table.columns} <= set(row)


@pytest.fixture
def manifest(context: Context) -> Iterator[Path]:
    """What scripts/collect-images writes above the corpora's folders, with an image too many."""
    images = context.corpora[0].images
    path = images[0].path.parents[1] / "manifest.json"
    entries = [
        {"file": f"alike/{image.name}.mem", "sha256": image.sha256, "release": "12"}
        for image in images
    ]
    listed = [*entries, {"file": "gone.mem", "sha256": "0" * 64}, "no entry"]
    path.write_text(json.dumps({"schema_version": 1, "images": listed}))
    yield path
    path.unlink()


def test_a_manifest_is_found_for_images_of_its_sums(context: Context, manifest: Path) -> None:
    found = study.find_manifests(context.corpora)
    assert [entry["sha256"] for entry in found] == [
        image.sha256 for image in context.corpora[0].images
    ]
    assert study.find_manifests(context.corpora[1:]) == []


@pytest.mark.parametrize("content", [None, "", "[]", '{"images": 3}', '{"schema_version": 1}'])
def test_other_files_of_that_name_are_passed_over(
    context: Context, manifest: Path, content: str | None
) -> None:
    if content is None:
        manifest.unlink()
        manifest.mkdir()
        try:
            assert study.find_manifests(context.corpora) == []
        finally:
            manifest.rmdir()
            manifest.touch()
        return
    manifest.write_text(content)
    assert study.find_manifests(context.corpora) == []


@pytest.mark.usefixtures("made_up_sections")
def test_the_report_is_json_with_everything(
    context: Context, compared: dict[str, dict[str, Result]], manifest: Path
) -> None:
    answers = study.answer(context)
    report = study.report(replace(context, seed=9), answers, compared, "difffs study images")
    assert json.loads(json.dumps(report)) == report
    assert report["schema_version"] == study.SCHEMA_VERSION
    assert (report["command"], report["seed"]) == ("difffs study images", 9)
    assert report["sample"] == context.sample
    assert {"processor", "cores", "memory", "kernel", "python", "difffs"} == set(report["machine"])
    assert [(image["corpus"], image["name"]) for image in report["images"]] == [
        ("alike", "one"),
        ("alike", "two"),
        ("different", "one"),
        ("different", "two"),
    ]
    assert all(len(image["sha256"]) == 64 for image in report["images"])
    assert len(report["manifest"]) == 2
    assert report["recipes"] == {name: merge_imports(results) for name, results in compared.items()}
    assert list(report["sections"]) == ["second", "fifth"]
    told = report["sections"]["fifth"]
    assert (told["number"], told["conclusion"], told["absent"]) == (5, "Large.", ["zram: none"])
    assert told["findings"] == ["Larger."]
    (table,) = told["tables"].values()
    assert table["columns"] == [
        {"key": "corpus", "title": "corpus", "unit": "text"},
        {"key": "bytes", "title": "bytes", "unit": "bytes"},
    ]
    assert [row["bytes"] for row in table["rows"]] == [each.bytes for each in context.corpora]
