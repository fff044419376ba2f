"""``difffs config``, and what ``--configured NAME`` makes of the commands."""

import json
from pathlib import Path

import pytest

from difffs.cli.main import main
from tests.pages import guest_memory

TEXT = """\
[mount guests]
options = buffer=1M

[swap main]
store = {folder}/swap
size = 1.5G
priority = 7

[swap guests]
store = {folder}/other
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration of three sections."""
    path = tmp_path / "difffs.conf"
    path.write_text(TEXT.format(folder=tmp_path))
    return path


def complaint(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line.removeprefix("difffs: ")


def test_as_people_read_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--config", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("[")] == [
        "[mount guests]  difffs@guests.service",
        "[swap main]  difffs-swap@main.service",
        "[swap guests]  difffs-swap@guests.service",
    ]
    words = [line.split() for line in lines]
    assert ["mountpoint", "/run/difffs/guests", "default"] in words
    assert ["size", "1.50", "GiB", f"{file}:6"] in words
    assert ["recipe", "-", "default"] in words
    assert ["refine_budget", "7200", "s", "default"] in words


def test_as_programs_read_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "main", "--json", "--config", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema_version": 1,
        "files": [str(file)],
        "sections": [
            {
                "kind": "swap",
                "name": "main",
                "unit": "difffs-swap@main.service",
                "store": f"{file.parent}/swap",
                "size": 3 << 29,
                "priority": 7,
                "recipe": None,
                "options": None,
                "set_in": {
                    "store": {"file": str(file), "line": 5},
                    "size": {"file": str(file), "line": 6},
                    "priority": {"file": str(file), "line": 7},
                },
            }
        ],
    }
    assert main(["config", "guests", "--json", "--config", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)["sections"]
    assert [section["kind"] for section in found] == ["mount", "swap"]


def test_a_name_that_is_not_there(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "config", "gusts", "--config", file) == (
        "no section is named gusts: there is [mount guests], [swap main], [swap guests]"
    )


def test_what_is_wrong_anywhere_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with file.open("a") as more:
        more.write("size = much\n")
    expected = f"{file}:11: size: 'much' is no size"
    assert complaint(capsys, "config", "--config", file).startswith(expected)
    assert complaint(capsys, "config", "main", "--config", file).startswith(expected)
    assert complaint(capsys, "swapon", "--configured", "guests", "--config", file).startswith(
        expected
    )


def test_nothing_is_configured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.conf").write_text("# nothing yet\n")
    assert main(["config", "--config", str(tmp_path / "empty.conf")]) == 0
    assert capsys.readouterr().out == f"nothing is configured ({tmp_path}/empty.conf)\n"
    assert "nowhere cannot be read" in complaint(capsys, "config", "--config", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["mount"], "mount needs STORE and MOUNTPOINT, or --configured NAME"),
        (["mount", "store"], "mount needs STORE and MOUNTPOINT, or --configured NAME"),
        (["umount"], "umount needs MOUNTPOINT, or --configured NAME"),
        (["swapoff"], "swapoff needs STORE, or --configured NAME"),
        (["refine"], "refine needs STORE-or-MOUNTPOINT, or --configured NAME"),
        (["refine", "s", "--configured", "a"], "--configured a takes the place of STORE-or-MOUNTP"),
        (["refine", "--configured", "main", "--config", "FILE"], "no [mount main] is configured"),
        (["swapon", "store", "--config", "x"], "--config goes with --configured NAME"),
        (["swapon", "store", "--configured", "a"], "--configured a takes the place of STORE"),
        (["mount", "--configured", "a", "--config", "FILE"], "no [mount a] is configured, but ["),
        (["umount", "--configured", "main", "--config", "FILE"], "no [mount main] is configured"),
        (["swapoff", "--configured", "x", "--config", "FILE"], "no [swap x] is configured, but ["),
    ],
)
def test_the_arguments_or_a_section(
    words: list[str], wanted: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(file) if word == "FILE" else word for word in words]
    assert complaint(capsys, *given).startswith(wanted)


def test_a_section_speaks_for_refine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "image").write_bytes(guest_memory(3, 200))
    store, file = tmp_path / "store", tmp_path / "difffs.conf"
    file.write_text(f"[mount images]\nstore = {store}\nrefine_tier = rest\n")
    assert main(["import", str(store), str(tmp_path / "image")]) == 0
    refine = ["refine", "--configured", "images", "--config", str(file), "--json"]
    for more, tier in (["--tier", "cold"], "cold"), ([], "rest"):
        capsys.readouterr()
        assert main([*refine, *more]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["where"], report["tier"]) == (str(store), tier)
        assert report["groups"]
