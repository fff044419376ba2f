"""Loop devices as the kernel tells of them."""

import os
import subprocess
from pathlib import Path

import pytest

from difffs import loop_device

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and the kernel's module",
)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_under_a_loop_device(tmp_path: Path, read_only: bool) -> None:
    file = tmp_path / os.fsdecode(b"im\x85age\xff")
    file.touch()
    os.truncate(file, 1 << 20)
    words = ["losetup", "--find", "--show", *(["--read-only"] if read_only else []), str(file)]
    path = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    try:
        loop = loop_device.inspect(path)
        status = file.stat()
        assert loop == loop_device.LoopDevice(
            path, str(file), status.st_dev, status.st_ino, read_only
        )
        assert loop in list(loop_device.loop_devices())
        assert loop_device.is_read_only(path) == read_only
        file.unlink()
        assert loop_device.inspect(path) == loop, "the kernel's remark on the name is left out"
    finally:
        loop_device.detach(path)
    with pytest.raises(OSError, match="No such file"):
        loop_device.inspect(path)


def test_the_flag_that_outlives_detaching(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.touch()
    os.truncate(file, 1 << 20)
    show = ["losetup", "--find", "--show", str(file)]
    path = subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()
    try:
        subprocess.run(["blockdev", "--setro", path], check=True)
        assert loop_device.is_read_only(path)
        assert not loop_device.inspect(path).opened_read_only
        loop_device.set_writable(path)
        assert not loop_device.is_read_only(path)
    finally:
        loop_device.detach(path)
