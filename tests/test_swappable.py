"""What lies on memory that can be swapped out, directly or some layers down."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from difffs import swappable
from difffs.mount.live import mount_containing
from difffs.swappable import _Search, swappable_layer

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


def attach(image: Path, undo: ExitStack, *options: str) -> str:
    """Attach a loop device to an image."""
    words = ["losetup", "--find", "--show", *options, str(image)]
    path = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    undo.callback(subprocess.check_call, ["losetup", "--detach", path])
    return path


def test_one_of_the_devices_of_a_btrfs(mounted: Mounting, tmp_path: Path) -> None:
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("no mkfs.btrfs (install btrfs-progs)")
    memory = mounted("memory", "-t", "tmpfs", "none")
    with ExitStack() as undo:
        devices = []
        for folder in (tmp_path, memory):
            (folder / "image").touch()
            os.truncate(folder / "image", 128 << 20)
            devices.append(attach(folder / "image", undo))
        done = subprocess.run(
            ["mkfs.btrfs", "-q", "-d", "raid1", *devices], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"mkfs.btrfs: {done.stderr.decode()}")
        folder = tmp_path / "disk"
        folder.mkdir()
        words = ["mount", "-t", "btrfs", "-o", f"device={devices[1]}", devices[0], str(folder)]
        if subprocess.run(words, capture_output=True, check=False).returncode != 0:
            pytest.skip("this kernel has no btrfs")
        undo.callback(subprocess.check_call, ["umount", folder])
        found, _ = swappable_layer(folder)
    assert found is not None
    assert f"lies on the tmpfs {memory}" in found


def test_a_partition(mounted: Mounting) -> None:
    image = mounted("memory", "-t", "tmpfs", "none") / "image"
    with image.open("wb") as stream:
        # a table with one partition of Linux's type from sector 2048 on
        stream.seek(446)
        stream.write(bytes([0, 0, 2, 0, 0x83, 0, 0, 0]))
        stream.write((2048).to_bytes(4, "little") + (60000).to_bytes(4, "little"))
        stream.seek(510)
        stream.write(b"\x55\xaa")
        stream.truncate(32 << 20)
    with ExitStack() as undo:
        device = attach(image, undo, "--partscan")
        name = os.path.basename(device)
        number = Path("/sys/block", name, f"{name}p1", "dev")
        if not number.exists():
            pytest.skip("this kernel reads no partition tables of loop devices")
        major, _, minor = number.read_text().strip().partition(":")
        found = _Search()._block_device(os.makedev(int(major), int(minor)))
    assert found is not None
    assert found.startswith(f"{device}, whose image {image}")


def test_what_a_mapped_device_lies_on(
    mounted: Mounting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's folder of a device over two others, as device mapper and md have it."""
    image = mounted("memory", "-t", "tmpfs", "none") / "image"
    image.touch()
    os.truncate(image, 1 << 20)
    with ExitStack() as undo:
        status = os.stat(attach(image, undo))
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        slaves = tmp_path / "253:7" / "slaves"
        for name, device in (("first", "1:0"), ("second", number)):
            (slaves / name).mkdir(parents=True)
            (slaves / name / "dev").write_text(f"{device}\n")
        (tmp_path / number).symlink_to(Path("/sys/dev/block", number).resolve())
        monkeypatch.setattr(swappable, "_BLOCK_DEVICES", tmp_path)
        found = _Search()._block_device(os.makedev(253, 7))
    assert found is not None
    assert f"whose image {image} lies on the tmpfs" in found
