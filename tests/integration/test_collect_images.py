"""scripts/collect-images --small, from the archive to images; not part of the usual runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collection import disks
from collection.collect import BUILD_FOLDER
from collection.disks import Disk
from collection.guests import CollectedGuest
from collection.manifest import read_image
from collection.plan import SMALL
from collection.releases import MIRROR
from trial import guest

CHECKOUT = Path(__file__).resolve().parents[2]
WANTED = "DIFFFS_TEST_COLLECTING"

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]


def obstacle() -> str | None:
    """Say why nothing can be collected here, or None."""
    if not os.environ.get(WANTED):
        return f"takes minutes and downloads a Debian: set {WANTED}=1"
    reason = disks.obstacle() or guest.obstacle()
    if reason:
        return reason
    try:
        with urllib.request.urlopen(f"{MIRROR}/dists/trixie/InRelease", timeout=20):
            return None
    except (urllib.error.URLError, TimeoutError) as error:
        return f"the Debian archive cannot be reached: {error}"


def collect(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "scripts")}
    command = [sys.executable, "-m", "collection", "--small", *words, str(folder)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=1800, env=environment
    )


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small corpus."""
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("collection")
    done = collect(folder)
    assert done.returncode == 0, done.stderr
    yield folder
    shutil.rmtree(folder)


def test_two_images_are_there_and_described(collection: Path) -> None:
    manifest: dict[str, Any] = json.loads((collection / "manifest.json").read_text())
    images = {image["file"]: image for image in manifest["images"]}
    assert set(images) == {file for member in SMALL for file in member.files}
    for file, image in images.items():
        path = collection / file
        assert path.stat().st_size == 128 << 20
        sha256, zeros = read_image(path)
        assert image["sha256"] == sha256
        assert image["zero_page_share"] == round(zeros, 4)
        assert zeros < 0.3
        assert image["kernel"].encode() in path.read_bytes(), "the kernel's name is in its memory"
        assert image["rounds"] >= 1


def test_a_second_run_collects_what_is_missing_only(collection: Path) -> None:
    first, second = (collection / file for member in SMALL for file in member.files)
    before = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    done = collect(collection, "--verify", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((collection / "manifest.json").read_text())
    assert (first.stat().st_mtime_ns, second.stat().st_mtime_ns) == before
    second.unlink()
    done = collect(collection)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == before[0]
    assert second.stat().st_size == 128 << 20


def test_a_paused_guest_stands_still_and_goes_on(collection: Path, tmp_path: Path) -> None:
    disk = Disk.open(collection / BUILD_FOLDER / SMALL[0].system_name)
    with CollectedGuest(
        "one", tmp_path / "ram", tmp_path, 128, disk=disk, work="perl", load=4
    ) as one:
        one.wait_until_steady()
        with one.paused():
            assert read_image(one.memory) == read_image(one.memory)
        seen = len(one.events())
        assert one.wait_for("round", 300, start=seen).values["name"] == "one"
