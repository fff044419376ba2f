"""A whole study: which sections, in which order, and what comes out of it as JSON."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from difffs.errors import UsageError
from difffs.recipe import RECIPES
from difffs.study import sections
from difffs.study.cache import Result
from difffs.study.context import Context
from difffs.study.corpus import Corpus
from difffs.study.importing import merge_imports, timed_imports
from difffs.study.machine import describe_machine
from difffs.study.result import Cell, Column, Section, Table, Unit

SCHEMA_VERSION = 1

_MANIFEST = "manifest.json"


class SectionModule(Protocol):
    """What a module of `difffs.study.sections` has."""

    NUMBER: int
    NAME: str
    TITLE: str

    def run(self, context: Context) -> Section:
        """Answer the question."""


def section_modules(questions: Sequence[int] | None = None) -> list[SectionModule]:
    """Import the modules of these questions, by default all; UsageError for unknown numbers."""
    for question in questions or ():
        if question not in sections.SECTIONS:
            known = ", ".join(map(str, sections.SECTIONS))
            raise UsageError(f"no question {question}; there are {known}")
    return [
        cast(SectionModule, importlib.import_module(f"difffs.study.sections.{name}"))
        for number, name in sections.SECTIONS.items()
        if not questions or number in questions
    ]


def answer(
    context: Context,
    questions: Sequence[int] | None = None,
    done: Callable[[Section], None] = lambda _section: None,
) -> list[Section]:
    """Answer the questions one after the other; `done` sees each answer when it is there."""
    answers = []
    for module in section_modules(questions):
        began = time.monotonic()
        section = replace(module.run(context), seconds=time.monotonic() - began)
        answers.append(section)
        done(section)
    return answers


def compare_recipes(context: Context, names: Sequence[str]) -> dict[str, dict[str, Result]]:
    """Import each corpus with each named recipe, alone on the machine; recipe -> corpus -> result.

    Each result is what ``difffs stats --json`` says of the store, with `seconds`,
    `pages_per_second`, and `images`.
    """
    for name in names:
        if name not in RECIPES:
            raise UsageError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return {name: timed_imports(context, RECIPES[name]) for name in names}


def find_manifests(corpora: Sequence[Corpus]) -> list[dict[str, Any]]:
    """What ``scripts/collect-images`` has written about these images, if it made them."""
    wanted = {image.sha256 for corpus in corpora for image in corpus.images}
    homes = {image.origin.file.resolve().parent for corpus in corpora for image in corpus.images}
    found: dict[str, dict[str, Any]] = {}
    for folder in sorted(homes | {home.parent for home in homes}):
        try:
            listed = json.loads((folder / _MANIFEST).read_text())["images"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and entry.get("sha256") in wanted:
                found[entry["sha256"]] = entry
    return list(found.values())


def report(
    context: Context,
    answers: Sequence[Section],
    recipes: dict[str, dict[str, Result]],
    command: str,
) -> dict[str, Any]:
    """Everything as one JSON object."""
    return {
        "schema_version": SCHEMA_VERSION,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": describe_machine(),
        "workers": context.executor.machines(),
        "sample": context.sample,
        "seed": context.seed,
        "images": [
            {
                "corpus": corpus.name,
                "name": image.name,
                "file": image.origin.file.name,
                "format": image.origin.format,
                "compression": image.origin.compression,
                "notes": list(image.origin.notes),
                "pages": image.pages,
                "sha256": image.sha256,
            }
            for corpus in context.corpora
            for image in corpus.images
        ],
        "manifest": find_manifests(context.corpora),
        "recipes": {name: merge_imports(results) for name, results in recipes.items()},
        "sections": {section.name: _section(section) for section in answers},
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        "number": section.number,
        "title": section.title,
        "conclusion": section.conclusion,
        "findings": list(section.findings),
        "seconds": section.seconds,
        "absent": list(section.absent),
        "tables": {table.name: _table(table) for table in section.tables},
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "note": table.note,
        "columns": [{"key": c.key, "title": c.title, "unit": c.unit.value} for c in table.columns],
        "rows": [dict(row) for row in table.rows],
    }


def recipe_table(recipes: dict[str, dict[str, Result]]) -> Table:
    """The comparison of named recipes as a table."""
    rows: list[dict[str, Cell]] = []
    for name, results in recipes.items():
        for corpus, result in results.items():
            pages = result["pages"]
            rows.append(
                {
                    "corpus": corpus,
                    "recipe": name,
                    **{key: result["bytes"][key] for key in ("logical", "stored", "metadata")},
                    "factor": result["factor"],
                    **{key: pages[key] for key in ("identical", "patch", "compress", "raw")},
                    "pages_per_second": result["pages_per_second"],
                }
            )
    order = list(dict.fromkeys(row["corpus"] for row in rows))
    rows.sort(key=lambda row: order.index(row["corpus"]))
    return Table(
        "recipes",
        "Named recipes",
        [
            Column("corpus", "corpus"),
            Column("recipe", "recipe"),
            Column("factor", "factor", Unit.FACTOR),
            Column("stored", "stored MiB", Unit.MEBIBYTES),
            Column("metadata", "metadata MiB", Unit.MEBIBYTES),
            Column("identical", "identical pages", Unit.COUNT),
            Column("patch", "patched", Unit.COUNT),
            Column("compress", "compressed", Unit.COUNT),
            Column("raw", "raw", Unit.COUNT),
            Column("pages_per_second", "pages/s", Unit.RATE),
        ],
        rows,
        "Imports one after the other with one worker, durable at their end; every page was read"
        " back and compared.",
    )
