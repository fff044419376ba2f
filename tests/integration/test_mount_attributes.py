"""What stat tells of a volume, to those that trust it: archivers, du, touch."""

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from difffs.mount.live import read_usage
from tests.integration.harness import Mounted

pytestmark = pytest.mark.integration

MEGABYTE = 1 << 20


def archived(path: Path) -> bytes:
    """What GNU tar puts into an archive that keeps holes."""
    if shutil.which("tar") is None:
        pytest.skip("no tar")
    packed = subprocess.run(
        ["tar", "-C", path.parent, "--sparse", "-cf", "-", path.name],
        check=True,
        capture_output=True,
    )
    return subprocess.run(
        ["tar", "-xOf", "-"], input=packed.stdout, check=True, capture_output=True
    ).stdout


def occupied(path: Path) -> int:
    """Bytes, as du counts them."""
    return path.stat().st_blocks * 512


def test_a_fresh_file_is_no_hole(mount: Mounted) -> None:
    """Before its pages are routed, and with the attributes of before in the kernel's cache."""
    path, content = mount.path / "fresh", os.urandom(MEGABYTE)
    path.touch()
    assert occupied(path) == 0
    path.write_bytes(content)
    assert occupied(path) == MEGABYTE
    assert archived(path) == content
    mount.commit()
    assert occupied(path) == MEGABYTE


def test_a_live_file_is_no_hole(mount: Mounted) -> None:
    """What the kernel keeps to itself counts as data as long as a writer has the file open."""
    path, content = mount.path / "live", os.urandom(MEGABYTE)
    with path.open("wb", buffering=0) as stream:
        assert path.stat().st_size == 0
        stream.write(content)
        time.sleep(0.2)  # for so long, the kernel may answer by itself
        assert occupied(path) >= MEGABYTE
        assert archived(path) == content


def test_a_hole_that_a_writer_opens_is_none_any_more(mount: Mounted) -> None:
    """A guest's memory: made with truncate, looked at, then written through a mapping or not."""
    path = mount.path / "vm1.mem"
    path.touch()
    os.truncate(path, 4 * MEGABYTE)
    assert occupied(path) == 0, "nobody can have written to it"
    assert archived(path) == bytes(4 * MEGABYTE)
    with path.open("r+b", buffering=0) as stream:
        stream.write(b"x" * 5000)
        assert occupied(path) >= 4 * MEGABYTE
        assert archived(path)[:5000] == b"x" * 5000
    assert occupied(path) == 8192


def test_disk_usage_follows_punched_holes(mount: Mounted) -> None:
    path = mount.path / "file"
    path.write_bytes(os.urandom(MEGABYTE))
    mount.commit()
    subprocess.run(
        ["fallocate", "--punch-hole", "--offset", "0", "--length", "512K", path], check=True
    )
    assert occupied(path) == MEGABYTE // 2


@pytest.mark.parametrize(
    "seconds", [-20_000_000_000, -9_223_372_037, -1, 9_223_372_037, 10_413_792_000, 1 << 40]
)
def test_no_time_stops_the_writing(mount: Mounted, seconds: int) -> None:
    """Times beyond 1677 to 2262 fit no record; ext4 and Linux take the nearest that fits."""
    path = mount.path / "vm"
    path.write_bytes(b"content")
    os.utime(path, (seconds, seconds))
    os.utime(mount.path, (seconds, seconds))
    mount.commit()
    (mount.path / "next").write_bytes(b"more")
    mount.commit()
    mount.remount()
    kept = path.stat().st_mtime_ns
    assert kept == min(max(seconds * 10**9, -(1 << 63)), (1 << 63) - 1)
    assert path.read_bytes() == b"content"


def test_touching_never_takes_a_file_back_in_time(mount: Mounted) -> None:
    """The kernel sets times by its own clock, which is up to a tick behind; so does the mount."""
    for number in range(50):
        path = mount.path / f"file-{number}"
        path.touch()
        made = path.stat().st_mtime_ns
        os.utime(path)
        assert path.stat().st_mtime_ns >= made


def test_names_that_are_too_long_are_said_to_be_so(mount: Mounted) -> None:
    long = mount.path / ("a" * 256)
    (mount.path / "b").touch()
    attempts: list[Callable[[], object]] = [
        lambda: os.stat(long),
        lambda: os.unlink(long),
        lambda: os.rmdir(long),
        lambda: os.mkdir(long),
        lambda: os.symlink("x", long),
        lambda: os.rename(long, mount.path / "b"),
        lambda: os.rename(mount.path / "b", long),
        lambda: os.truncate(long, 1),
        lambda: os.listdir(long),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match="too long") as caught:
            attempt()
        assert caught.value.errno == errno.ENAMETOOLONG


def test_link_counts(mount: Mounted) -> None:
    path, other, folder = (mount.path / name for name in ("a", "b", "folder"))
    with path.open("wb") as unlinked, other.open("wb") as replaced:
        assert os.fstat(unlinked.fileno()).st_nlink == 1
        path.unlink()
        (mount.path / "c").touch()
        (mount.path / "c").rename(other)
        time.sleep(1.1)  # asked for again, not only counted by the kernel
        assert os.fstat(unlinked.fileno()).st_nlink == 0
        assert os.fstat(replaced.fileno()).st_nlink == 0
    (folder / "one").mkdir(parents=True)
    (folder / "two").mkdir()
    assert folder.stat().st_nlink == 4
    (folder / "one").rename(mount.path / "one")
    assert (folder.stat().st_nlink, mount.path.stat().st_nlink) == (3, 4)


def test_syncing_a_directory_commits_names_and_closed_files(mount: Mounted) -> None:
    mount.path.joinpath("folder").mkdir()
    mount.path.joinpath("old").write_bytes(b"renamed")
    mount.path.joinpath("closed").write_bytes(b"content" * 1000)
    mount.path.joinpath("old").rename(mount.path / "folder" / "new")
    with (mount.path / "open").open("wb", buffering=0) as stream:
        stream.write(b"the kernel's still")
        descriptor = os.open(mount.path / "folder", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        mount.kill()
        with contextlib.suppress(OSError):  # the mount is gone
            stream.close()
    mount.mount()
    assert (mount.path / "folder" / "new").read_bytes() == b"renamed"
    assert (mount.path / "closed").read_bytes() == b"content" * 1000
    assert (mount.path / "open").exists()


@pytest.mark.parametrize("way", ["unlink", "replace"])
def test_syncing_after_a_removal_is_no_error(mount: Mounted, way: str) -> None:
    """The kernel sends times of a file whose name is gone: libfuse alone calls that stale."""
    path = mount.path / "file"
    path.write_bytes(b"hello" * 2000)
    if way == "unlink":
        path.unlink()
    else:
        (mount.path / "other").write_bytes(b"x")
        (mount.path / "other").rename(path)
    for _ in range(2):
        subprocess.run(["sync", "-f", mount.path], check=True)
    (mount.path / "next").write_bytes(b"hello")
    os.truncate(mount.path / "next", 3)
    os.utime(mount.path / "next", (5, 6))
    found = (mount.path / "next").stat()
    assert (found.st_size, found.st_atime, found.st_mtime) == (3, 5, 6)


def test_a_mount_tells_what_a_volume_takes(mount: Mounted) -> None:
    content = os.urandom(MEGABYTE)
    for name in ("one", "two"):
        (mount.path / name).write_bytes(content + bytes(4096))
    mount.commit()
    with (mount.path / "one").open("rb") as one:
        usage = read_usage(one.fileno())
    assert (usage.pages, usage.zero) == (257, 1)
    assert MEGABYTE // 2 <= usage.stored < MEGABYTE // 2 + 16384
    with mount.folder.joinpath("elsewhere").open("wb") as other, pytest.raises(OSError):  # noqa: PT011
        read_usage(other.fileno())
