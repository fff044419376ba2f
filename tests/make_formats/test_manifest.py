"""The manifest of written formats: added to, read back, refused when it is about other files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from formats.manifest import FileRecord, Manifest, ManifestError

ABOUT = {"memory_mib": 256, "seed": 1, "vga": False}


def record(guest: str, ending: str, pause: int = 1) -> FileRecord:
    return FileRecord(
        file=f"{guest}.pause-{pause}.{ending}",
        format=ending,
        program="QEMU",
        version="7.2.22",
        guest=guest,
        pause=pause,
        raw=f"{guest}.pause-{pause}.raw",
        bytes=4096,
        sha256="0" * 64,
        seconds=0.5,
    )


def test_what_was_added_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, ABOUT)
    assert manifest.records == []
    records = [record("qemu-7.2", "elf"), record("qemu-7.2", "raw")]
    for one in reversed(records):
        manifest.add(one)
    assert Manifest(tmp_path, ABOUT).records == records
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["memory_mib"] == 256
    assert [one["file"] for one in content["files"]] == [one.file for one in records]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_guest_that_is_booted_again_takes_its_old_files_along(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path, ABOUT)
    old, other = record("qemu-7.2", "elf", pause=2), record("qemu-10.0", "elf")
    for one in (old, other):
        (tmp_path / one.file).write_bytes(b"memory")
        manifest.add(one)
    manifest.forget("qemu-7.2")
    assert not (tmp_path / old.file).exists()
    assert (tmp_path / other.file).exists()
    assert Manifest(tmp_path, ABOUT).records == [other]


def test_files_of_another_size_are_not_mixed_in(tmp_path: Path) -> None:
    Manifest(tmp_path, ABOUT).add(record("qemu-7.2", "elf"))
    with pytest.raises(ManifestError, match="use another folder"):
        Manifest(tmp_path, ABOUT | {"memory_mib": 128})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 1, "memory_mib": 256, "seed": 1, "vga": false}'],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match="damaged"):
        Manifest(tmp_path, ABOUT)


def test_a_manifest_names_no_file_elsewhere(tmp_path: Path) -> None:
    Manifest(tmp_path, ABOUT).add(record("qemu-7.2", "elf"))
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"file": "', '"file": "../'))
    with pytest.raises(ManifestError, match="damaged"):
        Manifest(tmp_path, ABOUT)
