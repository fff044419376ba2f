"""What is refused before a mount is even tried."""

import os
from pathlib import Path

import pytest

from difffs.errors import DifffsError, MountProblem
from difffs.mount.daemon import check_mountpoint, open_store
from difffs.mount.options import MountOptions
from difffs.mount.unmount import detach, unmount, wait_until_released


def test_mount_points_that_cannot_be(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "inside").mkdir(parents=True)
    (tmp_path / "file").touch()
    for path, remedy in (
        (tmp_path / "missing", "mkdir -p"),
        (tmp_path / "file", "not a directory"),
        (tmp_path / "file" / "below", "check the path"),
        (store, "lies in the store"),
        (store / "inside", "lies in the store"),
    ):
        with pytest.raises(MountProblem, match=remedy):
            check_mountpoint(path, store)


@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or not for us"
)
def test_a_mount_point_that_can_be(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    check_mountpoint(tmp_path / "mount", tmp_path / "store")


def test_opening_makes_a_store_only_where_nothing_is(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with pytest.raises(DifffsError, match="not a difffs store"):
        open_store(path, MountOptions(read_only=True))
    assert not path.exists()
    with open_store(path, MountOptions(recipe="fast")) as store:
        assert store.recipe.name == "fast"
    with pytest.raises(DifffsError, match="recipe"):
        open_store(path, MountOptions(recipe="default"))
    with open_store(path, MountOptions(recipe="default", change_recipe=True)) as store:
        assert store.recipe.name == "default"
    with open_store(path, MountOptions(read_only=True)) as store:
        assert store.read_only


def test_unmounting_what_is_not_mounted(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", Path("/proc")):
        with pytest.raises(MountProblem, match="not a difffs mount"):
            unmount(str(path))
    with pytest.raises(DifffsError, match=r"cannot be unmounted|fusermount3"):
        detach(str(tmp_path))
    wait_until_released(tmp_path)
