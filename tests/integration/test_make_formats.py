"""scripts/make-formats with this system's QEMU and libvirt, from the command to guests that go on:
from what was written, and from what a store has given back of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from formats.corpus import make_initramfs
from formats.libvirt import LibvirtGuest, obstacle
from formats.machine import INITRAMFS, KERNEL, FormatsGuest, PlacedGuest, sha256_of
from formats.place import Place
from formats.plan import FORMATS, Format
from trial import guest

from difffs.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]
MEBIBYTES = 96
OBSTACLE = guest.obstacle()
LIBVIRT_OBSTACLE = obstacle(Place())

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.minutes,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(OBSTACLE is not None, reason=OBSTACLE or ""),
]


def command(folder: Path) -> list[str]:
    words = ["--programs", "host", "--memory", f"{MEBIBYTES}M", "--seconds", "2", str(folder)]
    return [sys.executable, "-m", "formats", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts")}


def leftovers() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("difffs-formats-*")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("formats")
    before = leftovers()
    done = subprocess.run(
        command(folder), check=False, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert leftovers() == before
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def files(made: Path) -> list[dict[str, Any]]:
    content = json.loads((made / "manifest.json").read_text())
    assert content["memory_mib"] == MEBIBYTES
    listed: list[dict[str, Any]] = content["files"]
    return listed


def test_every_file_is_there_as_the_manifest_says(made: Path, files: list[dict[str, Any]]) -> None:
    names = {one["file"] for one in files}
    assert names == {path.name for path in made.iterdir()} - {"manifest.json"}
    for one in files:
        path = made / one["file"]
        assert path.stat().st_size == one["bytes"]
        assert sha256_of(path) == one["sha256"]
        assert one["raw"] in names
    for pause in (1, 2):
        formats = {one["format"] for one in files if one["pause"] == pause}
        assert formats >= {"raw", "elf", "elf-paging", "kdump-zlib.flat", "savevm.qcow2"}


def test_each_format_begins_as_its_kind_does(made: Path, files: list[dict[str, Any]]) -> None:
    magic = {
        "elf": b"\x7fELF",
        "elf-paging": b"\x7fELF",
        "kdump-zlib.flat": b"makedumpfile\0\0\0\0",
        "kdump-zlib.raw": b"KDUMP   ",
        "savevm.qcow2": b"QFI\xfb",
        "migration": b"QEVM",
        "mapped-ram": b"QEVM",
        "mapped-ram-multifd": b"QEVM",
    }
    for one in files:
        if one["format"] != "raw":
            with (made / one["file"]).open("rb") as file:
                assert file.read(16).startswith(magic[one["format"]]), one["file"]


def test_pauses_differ_a_little_and_are_mostly_memory_in_use(
    made: Path, files: list[dict[str, Any]]
) -> None:
    first, second = ((made / one["file"]).read_bytes() for one in files if one["format"] == "raw")
    pages = range(0, len(first), 4096)
    assert len(first) == len(second) == MEBIBYTES << 20
    changed = sum(first[at : at + 4096] != second[at : at + 4096] for at in pages)
    assert 0 < changed < len(pages) // 2
    used = sum(any(first[at : at + 4096]) for at in pages)
    assert used > len(pages) // 2


def put_guest_files(folder: Path) -> None:
    """Put there what QEMU asks for even where a guest's memory is loaded."""
    cache = guest.cache_folder() / "guest"
    shutil.copyfile(cache / KERNEL, folder / KERNEL)
    make_initramfs(cache / INITRAMFS, MEBIBYTES, 1, folder / INITRAMFS)


def assert_goes_on(again: PlacedGuest) -> None:
    """Wait until the guest has checked all that it has kept in memory, an eighth at a time."""
    for _ in range(8):
        again.wait_for_tick()


def through_a_store(file: Path, form: str) -> None:
    """Import a file, compare its memory, and put what is exported in its place."""
    store, exported = file.parent / "store", file.parent / "exported"
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert main(["import", str(store), str(file), "--as", "image", "--json"]) == 0
    assert json.loads(told.getvalue())["volumes"][0]["format"] == form
    before = sha256_of(file)
    file.unlink()
    assert main(["export", str(store), "image", str(exported)]) == 0
    assert sha256_of(exported) == before
    exported.rename(file)


@pytest.mark.parametrize("stored", [False, True], ids=["", "from a store"])
@pytest.mark.parametrize(
    "form", [form for form in FORMATS if form.loads_into], ids=lambda form: form.name
)
def test_a_guest_goes_on_from_what_was_written(
    made: Path, tmp_path: Path, form: Format, stored: bool
) -> None:
    written = next(made.glob(f"*.pause-2.{form.name}"), None)
    if written is None:
        pytest.skip(f"this system's QEMU does not write {form.name}")
    put_guest_files(tmp_path)
    shutil.copyfile(written, tmp_path / "written")
    if stored:
        through_a_store(tmp_path / "written", form.name.partition(".")[2] or "migration")
    assert form.loads_into is not None
    with FormatsGuest(
        *("again", tmp_path / "ram", tmp_path, MEBIBYTES, "tcg"),
        place=Place(),
        waits=form.loads_into,
    ) as again:
        again.load("written", form)
        raw = written.with_name(written.name.removesuffix(form.name) + "raw")
        assert sha256_of(again.memory) == sha256_of(raw)
        again.go_on()
        assert_goes_on(again)


@pytest.mark.skipif(LIBVIRT_OBSTACLE is not None, reason=LIBVIRT_OBSTACLE or "")
@pytest.mark.parametrize("stored", [False, True], ids=["", "from a store"])
def test_a_domain_goes_on_from_its_save(tmp_path: Path, stored: bool) -> None:
    put_guest_files(tmp_path)
    with LibvirtGuest(
        *("domain", tmp_path / "unused", tmp_path, MEBIBYTES, "tcg"), place=Place()
    ) as domain:
        domain.version()
        domain.create()
        domain.wait_for_tick()
        domain.stop_processor()
        paused = sha256_of(domain.memory_file())
        domain.save("saved")
        if stored:
            through_a_store(tmp_path / "saved", "libvirt-save")
        domain.restore("saved", paused=True)
        assert sha256_of(domain.memory_file()) == paused
        domain.go_on()
        assert_goes_on(domain)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    before = leftovers()
    process = subprocess.Popen(
        command(tmp_path / "formats"), stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "booting" in line:
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert leftovers() == before
    assert list((tmp_path / "formats").iterdir()) == []
