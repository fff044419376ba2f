"""``difffs study`` on the memory of two real guests, all questions, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trial import guest
from trial.guest import Guest

from difffs.study.sections import SECTIONS
from tests.integration import harness

MEBIBYTES = 96
SECONDS = 900

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.timeout(900),
]


def keep_memory_of(name: str, seed: int, image: Path, folder: Path) -> None:
    """Boot the small guest, let it work, pause it and keep what is in its memory."""
    with Guest(
        name,
        folder / f"{name}.ram",
        folder,
        mebibytes=MEBIBYTES,
        work="archive,copies,noise",
        seed=seed,
        end="stay",
    ) as one:
        one.wait_for("done", 300)
        one.monitor.command("stop")
        image.write_bytes(one.memory.read_bytes())


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    """A folder with the folder `clones`: two images of guests of one kernel."""
    if reason := guest.obstacle():
        pytest.skip(reason)
    with harness.folder_in_memory() as folder:
        clones = folder / "clones"
        clones.mkdir()
        for seed, name in enumerate(("one", "two"), start=1):
            keep_memory_of(name, seed, clones / f"{name}.mem", folder)
        yield folder


def study(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "difffs", "study", folder / "clones", *words]
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_all_questions_are_answered(images: Path) -> None:
    report_folder = images / "report"
    options: list[str | Path] = ["--sample", "60", "--cache", images / "cache", "--json"]
    options += ["--report", report_folder]
    done = study(images, *options)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report == json.loads((report_folder / "report.json").read_text())
    assert list(report["sections"]) == list(SECTIONS.values())

    default, paper = report["recipes"]["default"], report["recipes"]["difference-engine"]
    assert default["bytes"]["logical"] > 20 << 20, "these guests have been at work"
    assert default["pages"]["identical"] > 1000, "two guests of one kernel have much in common"
    assert default["pages"]["patch"] > 100
    assert 2 < paper["factor"] < default["factor"]

    page = (report_folder / "index.html").read_text()
    for name, section in report["sections"].items():
        assert f'<h2 id="{name}">' in page
        assert section["conclusion"]
        for table in section["tables"]:
            assert (report_folder / f"{table}.csv").read_text().count("\n") > 1, table

    again = study(images, *options)
    assert again.returncode == 0, again.stderr
    sections = json.loads(again.stdout)["sections"]
    for name, section in report["sections"].items():
        assert sections[name]["tables"] == section["tables"], "the second time from the cache"
