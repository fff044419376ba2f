"""Images on block devices: read from where they stand, never written past the end."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.harness import DIFFFS, complaint, difffs

pytestmark = pytest.mark.integration

MIB = 1 << 20


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """A loop device over the file."""
    made = subprocess.run(
        ["losetup", "--find", "--show", file], check=True, capture_output=True, text=True
    )
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one volume of 2 MiB, `volume`."""
    if os.geteuid() != 0 or not shutil.which("losetup") or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root, losetup and loop devices")
    (tmp_path / "image").write_bytes(os.urandom(2 * MIB))
    difffs("import", tmp_path / "store", tmp_path / "image", "volume")
    return tmp_path / "store"


def test_export_to_a_device(store: Path, tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(b"old " * MIB)
    with loop_device(backing) as device:
        difffs("export", store, "volume", device)
    content = backing.read_bytes()
    assert content == (tmp_path / "image").read_bytes() + b"old " * (MIB // 2)


def test_export_to_a_device_that_is_too_small(store: Path, tmp_path: Path) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(b"old " * (MIB // 4))
    with loop_device(backing) as device:
        line = complaint("export", store, "volume", device, status=8)
        assert "1,048,576 of 2,097,152 bytes" in line
        done = subprocess.run(
            ["bash", "-c", 'exec "${@:3}" export "$1" volume - >"$2"', "-", store, device, *DIFFFS],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 8
        assert len(done.stderr.splitlines()) == 1
    assert backing.read_bytes() == b"old " * (MIB // 4), "found before anything is written"


def test_export_to_a_device_whose_disk_is_full(store: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
    try:
        (disk / "backing").touch()
        os.truncate(disk / "backing", 4 * MIB)
        with loop_device(disk / "backing") as device:
            line = complaint("export", store, "volume", device, status=8)
        assert "cannot be written" in line
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_import_of_a_device(store: Path, tmp_path: Path) -> None:
    """By name, from stdin where it stands, and without its start."""
    image = tmp_path / "image"
    content = image.read_bytes()
    with loop_device(image) as device:
        difffs("import", store, device, "named", "--skip", "5000")
        script = 'dd bs=512 count=3 status=none of=/dev/null && "${@:3}" import "$1" - piped && cat'
        done = subprocess.run(
            ["bash", "-c", f'{{ {script}; }} <"$2"', "-", store, device, *DIFFFS],
            capture_output=True,
            check=True,
        )
    assert done.stdout.count(b"\n") == 2, "nothing is left to be read"
    for name, start in (("named", 5000), ("piped", 1536)):
        difffs("export", store, name, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == content[start:]
