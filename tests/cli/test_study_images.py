"""difffs study of images in formats of their own."""

import errno
import gzip
import json
import os
import shutil
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from difffs.cli import study_images
from difffs.cli.main import main
from difffs.images.memory_file import MemoryFile
from difffs.page import PAGE_SIZE
from tests.images.elf_builder import Mapping, elf_core
from tests.images.lime_builder import lime_dump
from tests.pages import guest_pages
from tests.study.conftest import scratch_folder  # noqa: F401

MEMORY = b"".join(guest_pages(Random(6), 256))


@pytest.fixture
def words(tmp_path: Path, scratch_folder: Path) -> list[str]:  # noqa: F811
    """The command, which compares one recipe, with a cache and scratch of its own."""
    folders = ["--cache", str(tmp_path / "cache"), "--scratch", str(scratch_folder)]
    return ["study", "--recipes", "identical-only", "--json", *folders]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the images of a corpus lie: the same memory raw and in two formats."""
    folder = tmp_path / "saves"
    folder.mkdir()
    (folder / "plain.mem").write_bytes(MEMORY)
    (folder / "core.elf").write_bytes(elf_core([(0, MEMORY)]))
    (folder / "dump.lime").write_bytes(lime_dump([(0, MEMORY)]))
    return folder


def reported(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The report of a call that succeeds."""
    capsys.readouterr()
    assert main(list(arguments)) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_memory_is_studied_whatever_it_is_in(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(folder / name) for name in ("plain.mem", "core.elf", "dump.lime")]
    report = reported(capsys, *words, *paths)
    assert [(i["corpus"], i["name"], i["file"], i["format"]) for i in report["images"]] == [
        ("saves", "plain", "plain.mem", "raw"),
        ("saves", "core", "core.elf", "elf"),
        ("saves", "dump", "dump.lime", "lime"),
    ]
    assert {i["pages"] for i in report["images"]} == {256}
    assert len({i["sha256"] for i in report["images"]}) == 1
    first, second, third = report["recipes"]["identical-only"]["images"]
    assert first["pages"]["raw"] > 100
    for other in (second, third):
        assert other["pages"]["raw"] == 0, "every page is there already"


def test_results_are_found_again_by_the_memory(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = reported(capsys, *words, str(folder / "plain.mem"))
    kept = sorted((tmp_path / "cache").iterdir())
    dump = reported(capsys, *words, str(folder / "dump.lime"))
    assert sorted((tmp_path / "cache").iterdir()) == kept
    assert dump["recipes"] == raw["recipes"]


def test_as_is_the_files_bytes_are_studied(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,) = reported(capsys, *words, str(folder / "dump.lime"))["images"]
    assert image["format"] == "lime"
    report = reported(capsys, *words, "--as-is", str(folder / "dump.lime"))
    (plain,) = report["images"]
    assert plain["format"] == "raw"
    assert plain["sha256"] != image["sha256"]
    assert "--as-is" in report["command"]


def test_nothing_is_left_in_scratch(
    words: list[str],
    folder: Path,
    scratch_folder: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    reported(capsys, *words, str(folder / "core.elf"))
    assert list(scratch_folder.iterdir()) == []
    damage(folder)
    assert main([*words, str(folder / "core.elf"), str(folder / "dump.lime")]) == 6
    assert list(scratch_folder.iterdir()) == []


def damage(folder: Path) -> None:
    """Make dump.lime end within the header of its second range."""
    dump = lime_dump([(0, MEMORY), (len(MEMORY), MEMORY)])
    (folder / "dump.lime").write_bytes(dump[: len(MEMORY) + 32 + 20])


def test_a_damaged_image_is_a_line_with_the_place(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    capsys.readouterr()
    assert main([*words, str(folder / "dump.lime")]) == 6
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("difffs: image ")
    assert f"dump.lime is damaged or cut off at {len(MEMORY) + 32:,}: " in line
    assert main([*words, "--as-is", str(folder / "dump.lime")]) == 0


def test_what_only_looks_like_a_format_is_studied_as_it_is(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_a_process = [Mapping(0, 0, PAGE_SIZE, physical=0), Mapping(0, 0, PAGE_SIZE, physical=0)]
    (folder / "core.elf").write_bytes(elf_core([(0, MEMORY)], of_a_process))
    assert main([*words, str(folder / "core.elf")]) == 0
    output = capsys.readouterr()
    (image,) = json.loads(output.out)["images"]
    assert image["format"] == "raw"
    (note,) = image["notes"]
    assert note.endswith("; its bytes are studied as they are")
    assert output.err == f"difffs: {folder / 'core.elf'}: {note}\n"


def test_incomplete_memory_is_told(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (folder / "dump.lime").write_bytes(lime_dump([(0, MEMORY)])[:-PAGE_SIZE])
    page = tmp_path / "report"
    assert main([*words, str(folder / "dump.lime"), "--report", str(page)]) == 0
    output = capsys.readouterr()
    (image,) = json.loads(output.out)["images"]
    (note,) = image["notes"]
    assert "cut off" in note
    assert f"dump.lime: {note}" in output.err
    told = (page / "index.html").read_text()
    assert "dump.lime: the dump was cut off" in told
    assert '<th class="text">format' in told


def test_manifests_are_looked_for_beside_what_was_given(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,) = reported(capsys, *words, str(folder / "core.elf"))["images"]
    entry = {"file": "plain.mem", "sha256": image["sha256"], "release": "12"}
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "images": [entry]}))
    assert reported(capsys, *words, str(folder / "core.elf"))["manifest"] == [entry]


def test_compressed_images_are_unpacked(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("difffs.images.packed", reason="nothing here unpacks images yet")
    (folder / "dump.lime.gz").write_bytes(gzip.compress((folder / "dump.lime").read_bytes()))
    (folder / "plain.mem.gz").write_bytes(gzip.compress(MEMORY))
    paths = [str(folder / name) for name in ("dump.lime.gz", "plain.mem.gz", "plain.mem")]
    images = reported(capsys, *words, *paths)["images"]
    assert [(image["format"], image["compression"]) for image in images] == [
        ("lime", "gzip"),
        ("raw", "gzip"),
        ("raw", None),
    ]
    assert len({image["sha256"] for image in images}) == 1


def test_an_image_called_as_stdin_is_a_file(
    words: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    os.rename("core.elf", "-")
    (image,) = reported(capsys, *words, "--", "-")["images"]
    assert (image["name"], image["format"], image["pages"]) == ("-", "elf", 256)


def test_room_is_looked_for_where_there_is_some(
    words: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The first folder has room for the dump, and none for what is in it."""
    (folder / "dump.lime").write_bytes(lime_dump([(64 * len(MEMORY), MEMORY)]))
    small, large = tmp_path / "small", tmp_path / "large"
    for place in (small, large):
        place.mkdir()
    free = {small: 4 * len(MEMORY), large: 1 << 40}
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(free=free[small if small in (path, *path.parents) else large]),
    )
    monkeypatch.setattr(study_images, "_places", lambda: [small, large])
    at = words.index("--scratch")
    del words[at : at + 2]
    (image,) = reported(capsys, *words, str(folder / "dump.lime"))["images"]
    assert image["pages"] == 65 * 256
    free[large] = free[small]
    assert main([*words, str(folder / "dump.lime")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("difffs: no room for stores: 81.2 MiB are needed")
    assert [*small.iterdir(), *large.iterdir()] == []


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.ENOSPC, 2, "no room for the memory of "),
        (errno.EFBIG, 2, "no room for the memory of "),
        (errno.EIO, 8, "memory-0.mem cannot be written: Input/output error"),
    ],
)
def test_scratch_that_cannot_be_written_is_a_line(
    words: list[str],
    folder: Path,
    scratch_folder: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
    said: str,
) -> None:
    def fail(_memory: MemoryFile, _offset: int, _data: memoryview) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(MemoryFile, "_write", fail)
    assert main([*words, str(folder / "core.elf")]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(scratch_folder.iterdir()) == []
