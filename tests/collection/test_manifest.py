"""The manifest: what is recorded comes back, and what is not there is collected again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from pathlib import Path

import pytest
from collection.manifest import Manifest, ManifestError, read_image
from collection.plan import Member

from tests.collection.records import PAGE, record_of, write_image

ALONE = Member("some", "alone", "debian-12", "web", load=2, seed=1, mebibytes=1)
SERIES = dataclasses.replace(ALONE, name="series", pauses=(1, 2, 3))


def collected(folder: Path, *members: Member) -> Manifest:
    manifest = Manifest(folder)
    for member in members:
        for file in member.files:
            write_image(folder / file, member.mebibytes, 10)
        manifest.add([record_of(member, file, folder) for file in member.files])
    return manifest


@pytest.mark.parametrize("zeros", [0, 1, 77, 256])
def test_sum_and_zero_share_of_an_image(tmp_path: Path, zeros: int) -> None:
    path = tmp_path / "one.mem"
    write_image(path, 1, zeros)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_image(path) == (expected, zeros / 256)


def test_a_page_with_one_byte_set_is_no_zero_page(tmp_path: Path) -> None:
    path = tmp_path / "one.mem"
    for place in (0, PAGE - 1, PAGE, 2 * PAGE - 1):
        content = bytearray(2 * PAGE)
        content[place] = 1
        path.write_bytes(content)
        assert read_image(path)[1] == 0.5


def test_records_come_back(tmp_path: Path) -> None:
    written = collected(tmp_path, ALONE, SERIES)
    again = Manifest(tmp_path)
    for file in (*ALONE.files, *SERIES.files):
        assert again.record(file) == written.record(file) is not None
    assert again.text() == written.text() == (tmp_path / "manifest.json").read_text()
    assert again.record("some/other.mem") is None


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert not Manifest(tmp_path).has(ALONE)
    assert not (tmp_path / "manifest.json").exists()


def test_what_is_there_is_not_collected_again(tmp_path: Path) -> None:
    collected(tmp_path, ALONE, SERIES)
    manifest = Manifest(tmp_path)
    assert manifest.has(ALONE, verify=True)
    assert manifest.has(SERIES, verify=True)


def test_a_guest_is_collected_again_when_one_of_its_images_is_missing(tmp_path: Path) -> None:
    manifest = collected(tmp_path, SERIES)
    (tmp_path / SERIES.files[1]).unlink()
    assert not manifest.has(SERIES)


def test_a_cut_image_is_collected_again(tmp_path: Path) -> None:
    manifest = collected(tmp_path, ALONE)
    with (tmp_path / ALONE.files[0]).open("r+b") as file:
        file.truncate((1 << 20) - PAGE)
    assert not manifest.has(ALONE)


def test_only_verifying_notices_a_changed_byte(tmp_path: Path) -> None:
    manifest = collected(tmp_path, ALONE)
    with (tmp_path / ALONE.files[0]).open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    assert manifest.has(ALONE)
    assert not manifest.has(ALONE, verify=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"load": 3},
        {"seed": 2},
        {"mebibytes": 2},
        {"pauses": (5,)},
        {"work": "jvm"},
        {"system_name": "debian-13"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_image_of_another_plan_is_collected_again(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    manifest = collected(tmp_path, ALONE)
    other: Member = dataclasses.replace(ALONE, **changed)  # type: ignore[arg-type]
    assert other.files == ALONE.files
    assert not manifest.has(other)


def test_forgotten_images_are_collected_again(tmp_path: Path) -> None:
    collected(tmp_path, ALONE, SERIES).remove(ALONE.files)
    manifest = Manifest(tmp_path)
    assert not manifest.has(ALONE)
    assert manifest.has(SERIES)


def test_threads_add_to_one_manifest(tmp_path: Path) -> None:
    members = [dataclasses.replace(ALONE, name=f"guest-{number}") for number in range(8)]
    for member in members:
        write_image(tmp_path / member.files[0], 1, 10)
    manifest = Manifest(tmp_path)
    threads = [
        threading.Thread(
            target=lambda member=member: manifest.add(
                [record_of(member, member.files[0], tmp_path)]
            )
        )
        for member in members
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = Manifest(tmp_path)
    assert all(again.has(member) for member in members)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["manifest.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1, "images": [{}]}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match="damaged"):
        Manifest(tmp_path)


def test_a_manifest_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 99, "images": []}))
    with pytest.raises(ManifestError, match="99"):
        Manifest(tmp_path)
