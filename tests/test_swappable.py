"""What lies on memory that can be swapped out, directly or some layers down."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from difffs.mount.live import mount_containing
from difffs.swappable import swappable_layer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

Mounting = Callable[..., Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounting]:
    """Mounts something below ``tmp_path``; a test is skipped where the kernel lacks it."""
    with ExitStack() as undo:

        def mount(name: str, *words: str) -> Path:
            folder = tmp_path / name
            folder.mkdir()
            done = subprocess.run(
                ["mount", *words, str(folder)], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                pytest.skip(f"mount {words}: {done.stderr.strip()}")
            undo.callback(subprocess.check_call, ["umount", "--lazy", folder])
            return folder

        yield mount


def image_in(folder: Path) -> Path:
    """Make an image of a file system."""
    image = folder / "image"
    image.touch()
    os.truncate(image, 32 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    return image


def overlay(mounted: Mounting, tmp_path: Path, on: Path) -> Path:
    """Mount an overlay whose upper layer lies in a folder."""
    for folder in (tmp_path / "lower", on / "upper", on / "work"):
        folder.mkdir()
    layers = f"lowerdir={tmp_path / 'lower'},upperdir={on / 'upper'},workdir={on / 'work'}"
    return mounted("overlay", "-t", "overlay", "-o", layers, "overlay")


def test_tmpfs(mounted: Mounting) -> None:
    folder = mounted("memory", "-t", "tmpfs", "none")
    found, _ = swappable_layer(folder / "not" / "there")
    assert found == f"the tmpfs {folder}"
    assert swappable_layer(mounted("kept", "-t", "tmpfs", "-o", "noswap", "none")) == (None, [])
    assert swappable_layer(mounted("ram", "-t", "ramfs", "none")) == (None, [])


def test_an_overlay_on_tmpfs(mounted: Mounting, tmp_path: Path) -> None:
    folder = overlay(mounted, tmp_path, mounted("memory", "-t", "tmpfs", "none"))
    found, _ = swappable_layer(folder / "store")
    assert found is not None
    assert found.startswith(f"the overlay {folder}")


def test_an_image_on_tmpfs(mounted: Mounting) -> None:
    memory = mounted("memory", "-t", "tmpfs", "none")
    image = image_in(memory)
    folder = mounted("disk", "-o", "loop", str(image))
    for _ in range(2):
        found, _ = swappable_layer(folder / "store")
        assert found is not None
        assert f"whose image {image} lies on the tmpfs {memory}" in found
        image.unlink(missing_ok=True)  # it goes on being used


def test_an_overlay_on_an_image_on_tmpfs(mounted: Mounting, tmp_path: Path) -> None:
    image = image_in(mounted("memory", "-t", "tmpfs", "none"))
    disk = mounted("disk", "-o", "loop", str(image))
    found, _ = swappable_layer(overlay(mounted, tmp_path, disk))
    assert found is not None
    assert "lies on the tmpfs" in found


def test_disks(mounted: Mounting, tmp_path: Path) -> None:
    mount = mount_containing(tmp_path)
    if mount is None or not mount.source.startswith("/dev/"):
        pytest.skip(f"{tmp_path} is on no disk")
    assert swappable_layer(tmp_path) == (None, [])
    disk = mounted("disk", "-o", "loop", str(image_in(tmp_path)))
    assert swappable_layer(disk) == (None, [])
    assert swappable_layer(overlay(mounted, tmp_path, disk)) == (None, [])
    assert sorted(path.name for path in (disk / "upper").iterdir()) == [], "left as it was"


def test_what_cannot_be_told(mounted: Mounting) -> None:
    found, remarks = swappable_layer(Path("/proc/self"))
    assert found is None
    assert len(remarks) == 1
    assert "cannot be told" in remarks[0]
