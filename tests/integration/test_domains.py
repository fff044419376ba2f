"""A mount with domains: two directories with the same guest, and what mv does between them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import harness
from tests.integration.harness import Mounted, complaint, difffs
from tests.pages import guest_memory

pytestmark = pytest.mark.integration

PAGES = 600


@pytest.fixture
def mount() -> Iterator[Mounted]:
    """A mount of a store with domains, made by the option."""
    reason = harness.obstacle()
    if reason is not None:
        pytest.skip(reason)
    with harness.folder_in_memory() as folder:
        store = folder / "store"
        (folder / "first").mkdir()
        difffs("mount", "-o", "domains", store, folder / "first")
        difffs("umount", folder / "first")
        made = Mounted(folder, store)
        try:
            yield made
        finally:
            if os.path.ismount(made.path):
                made.unmount()


def domains_of(mount: Mounted) -> dict[str, dict[str, int]]:
    return {each["directory"]: each for each in mount.statistics()["domains"]}


def written(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def test_two_directories_share_nothing_and_one_shares_all(mount: Mounted) -> None:
    image = guest_memory(1, PAGES)
    written(mount.path / "a/vm", image)
    one = domains_of(mount)["a"]["objects"]
    written(mount.path / "b/vm", image)
    assert {name: each["objects"] for name, each in domains_of(mount).items()} == {
        "": 0,
        "a": one,
        "b": one,
    }
    written(mount.path / "a/clone", image)
    told = domains_of(mount)
    assert (told["a"]["objects"], told["b"]["objects"]) == (one, one)
    assert (told["a"]["pages"], told["b"]["pages"]) == (2 * PAGES, PAGES)
    mount.remount()  # without the option: the store has it; and check finds nothing
    for name in ("a/vm", "b/vm", "a/clone"):
        assert (mount.path / name).read_bytes() == image
    told = domains_of(mount)
    assert told["a"]["decode_count"] > told["b"]["decode_count"] > 0
    # written over by what the other has: still its own
    written(mount.path / "a/vm", guest_memory(2, PAGES))
    written(mount.path / "b/vm", guest_memory(2, PAGES))
    assert domains_of(mount)["b"]["objects"] < domains_of(mount)["a"]["objects"]
    mount.remount()


def test_mv_between_domains_copies(mount: Mounted) -> None:
    image = guest_memory(3, PAGES)
    written(mount.path / "a/vm", image)
    (mount.path / "b").mkdir()
    for new in ("b/vm", "vm"):
        with pytest.raises(OSError, match="cross-device"):
            os.rename(mount.path / "a/vm", mount.path / new)
    os.rename(mount.path / "a/vm", mount.path / "a/renamed")
    os.rename(mount.path / "a", mount.path / "c")
    subprocess.run(["mv", mount.path / "c/renamed", mount.path / "b/vm"], check=True)
    told = domains_of(mount)
    assert {name: each["pages"] for name, each in told.items()} == {"": 0, "b": PAGES, "c": 0}
    assert (mount.path / "b/vm").read_bytes() == image
    mount.remount()


def test_a_file_that_is_open_without_a_name_keeps_its_domain(mount: Mounted) -> None:
    image = guest_memory(4, PAGES)
    written(mount.path / "a/vm", image)
    with (mount.path / "a/vm").open("r+b") as file:
        (mount.path / "a/vm").unlink()
        (mount.path / "a").rmdir()
        (mount.path / "a").mkdir()  # another domain of that name
        file.write(image)
        file.flush()
        written(mount.path / "a/vm", image)
        told = mount.statistics()["domains"]
        assert [each["directory"] for each in told] == ["", None, "a"]
        assert told[1]["objects"] == told[2]["objects"] > 0
        file.seek(0)
        assert file.read() == image
    mount.remount()


def test_the_option_is_for_stores_that_have_it(mount: Mounted) -> None:
    mount.unmount()
    mount.mount("-o", "domains")
    difffs("mount", "-o", "remount,domains", mount.store, mount.path)
    mount.unmount()
    mount.mount("--domains")
    plain, at = mount.folder / "plain", mount.folder / "first"
    difffs("mount", plain, at)
    try:
        assert "domains" not in json.loads(difffs("stats", at, "--json").stdout)
        text = complaint("mount", "-o", "remount,domains", plain, at, status=2)
        assert "remount cannot change it" in text
    finally:
        difffs("umount", at)
    assert "made without domains" in complaint("mount", "-o", "domains", plain, at, status=9)
