"""The findings explain themselves. That they are still so is not asked here: it needs the network,
root, and the versions that they name."""

import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "findings"
FINDINGS = sorted(FOLDER.glob("*.sh"))
# Each is a word, a colon and text, in this order.
FIELDS = ["Versions", "Expected", "Behaviour", "Output"]


def header(path: Path) -> str:
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    comment = lines[1 : next(at for at, line in enumerate(lines) if not line.startswith("#"))]
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_the_header_says_what_is_expected_and_what_happens(path: Path) -> None:
    text = header(path)
    summary = text.splitlines()[0]
    assert summary.endswith("."), "the first line says it in a sentence"
    assert re.findall(r"^([A-Z]\w+)\b[^:\n]*: ?", "\n".join(text.splitlines()[1:]), re.M) == FIELDS
    assert re.search(r"^Versions: .*\d+\.\d+", text, re.M)
    assert len(re.findall(r"^  \S", text[text.index("\nOutput") :], re.M)) >= 2


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_every_line_of_output_is_asserted(path: Path) -> None:
    output = header(path).partition("\nOutput")[2]
    asserted = re.findall(r'^same "(.*?)"', path.read_text(), re.M)
    for line in re.findall(r"^  (\S.*)$", output, re.M):
        assert any(line.startswith(f"{what}: ") for what in asserted), line


@pytest.mark.parametrize("path", [*FINDINGS, FOLDER / "prelude"], ids=lambda path: path.stem)
def test_they_parse(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_they_run_in_a_folder_of_their_own(path: Path) -> None:
    assert path.stat().st_mode & 0o111 == 0o111
    assert '\n. "$(dirname "$0")/prelude"\n' in path.read_text()
    for package in re.findall(r"^packages (.*)$", path.read_text(), re.M):
        assert all("==" in word for word in package.split()), "pinned"


def test_the_list_has_all_of_them() -> None:
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\) \|", (FOLDER / "README.md").read_text(), re.M)
    assert rows == [(path.stem, path.name) for path in FINDINGS]
