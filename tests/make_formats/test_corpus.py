"""What the guest's memory is filled with: chosen the same way each time, within the room."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from formats.corpus import INIT, choose, make_initramfs
from formats.debian_root import stamp
from formats.place import PATH, Place

KIB = 1 << 10


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder of files, and of what is not to be chosen."""
    folder = tmp_path / "system"
    (folder / "below").mkdir(parents=True)
    for number in range(40):
        at = folder / "below" if number % 2 else folder
        (at / f"file-{number}").write_bytes(bytes([number]) * (3 * KIB + number))
    (folder / "small").write_bytes(b"small")
    (folder / "link").symlink_to("file-0")
    os.mkfifo(folder / "pipe")
    return folder


def test_the_same_seed_chooses_the_same(system: Path) -> None:
    first = choose(80 * KIB, 1, [system])
    assert choose(80 * KIB, 1, [system]) == first
    assert choose(80 * KIB, 2, [system]) != first
    # each takes a page
    assert len(first) == 20
    assert len(set(first)) == 20


def test_only_regular_files_of_a_fit_size_are_chosen(system: Path) -> None:
    chosen = choose(1 << 30, 1, [system])
    assert sorted(path.name for path in chosen) == sorted(f"file-{n}" for n in range(40))


def test_no_room_and_no_folder_choose_nothing(system: Path) -> None:
    assert choose(4095, 1, [system]) == []
    assert choose(1 << 30, 1, [system / "nowhere"]) == []


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox")
def test_the_initramfs_follows_the_small_one_and_begins_with_the_init(tmp_path: Path) -> None:
    small = tmp_path / "small.gz"
    small.write_bytes(gzip.compress(b"the small one"))
    target = tmp_path / "initramfs.gz"
    make_initramfs(small, 96, 1, target)
    content = target.read_bytes()
    assert content.startswith(small.read_bytes())
    packed = gzip.decompress(content[small.stat().st_size :])
    assert len(packed) < 13 << 20
    listed = subprocess.run(
        ["busybox", "cpio", "-t"], input=packed, capture_output=True, check=True
    ).stdout.split()
    assert listed[0] == b"init"
    assert INIT.read_bytes() in packed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["initramfs.gz", "small.gz"]


def test_the_init_parses_as_posix_shell() -> None:
    subprocess.run(["sh", "-n", str(INIT)], check=True)


def test_programs_are_found_and_run_where_they_are_to_work(tmp_path: Path) -> None:
    here = Place()
    assert here.said(tmp_path, "pwd") == f"{tmp_path}\n"
    root = Place(tmp_path)
    command = root.command(tmp_path / "work", ["true"])
    assert command[0] == "unshare"
    assert command[-1] == "true"
    assert PATH.startswith("/")


def test_a_root_is_built_anew_for_another_archive() -> None:
    assert stamp("http://one") != stamp("http://other")
