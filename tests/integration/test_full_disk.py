"""A store on a file system that fills up: tmpfs, ext4 and btrfs of their own, really full.

tmpfs and ext4 overwrite in place. btrfs writes anew even what it overwrites, unless a file is
marked otherwise, as the hint tables are: writing to a mapped file would be a SIGBUS there. A btrfs
so small that data and metadata share their room (mkfs.btrfs --mixed) still ends the daemon so.
"""

import contextlib
import errno
import json
import mmap
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.mount.live import mount_at
from tests.integration import harness
from tests.integration.harness import Mounted, complaint, difffs, wait_until
from tests.integration.small_disks import KINDS, MIB, Disk, NotHere, small_disk

pytestmark = pytest.mark.integration

SMALLER = {"btrfs": 128}
"""In MiB: of the 256 of an endurance run most is filled again and again in the same way."""
FULL = r"no space left for .*nothing is lost"


@pytest.fixture(params=list(KINDS))
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """Make an empty small file system."""
    try:
        with small_disk(request.param, SMALLER.get(request.param)) as made:
            yield made
    except NotHere as reason:
        pytest.skip(str(reason))


class OnDisk(Mounted):
    """A store on the small file system, mounted beside it."""

    def __init__(self, disk: Disk) -> None:
        """Mount a new store; what the disk is full of is no reason to fail."""
        super().__init__(disk.beside, disk.path / "store")
        self.expected_log = [FULL]


@pytest.fixture
def mounted(disk: Disk) -> Iterator[OnDisk]:
    """Mount a store that is the only thing on the file system."""
    one = OnDisk(disk)
    try:
        yield one
        if mount_at(one.path) is not None:
            one.unmount()
        one.verify_log()
    finally:
        while mount_at(one.path) is not None:
            subprocess.run(harness.unmount_command(one.path, lazy=True), check=True)


def noise(seed: int) -> bytes:
    """A MiB that does not compress, the same each time."""
    return random.Random(seed).randbytes(MIB)


def expect_full(error: OSError) -> None:
    """A full disk is ENOSPC and nothing else."""
    assert error.errno == errno.ENOSPC, error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open for writing; closing may fail on a full disk."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            os.close(file)


def fill(path: Path, most: int, beyond: int = 8) -> int:
    """Write and synchronise MiB for MiB until the disk is full, and try on for some more.

    Returns how many went down.
    """
    written, failures = 0, 0
    with opened(path) as file:
        for number in range(most + beyond):
            try:
                os.pwrite(file, noise(number), number * MIB)
                os.fsync(file)
            except OSError as error:
                expect_full(error)
                failures += 1
                if failures == beyond:
                    return written
            else:
                if not failures:
                    written += 1
    raise AssertionError("never full")


def fill_somehow(path: Path, most: int) -> int:
    """Write and synchronise until something fails, whatever; return how many MiB went down."""
    with opened(path) as file:
        for number in range(most):
            try:
                os.pwrite(file, noise(number), number * MIB)
                os.fsync(file)
            except OSError:
                return number
    raise AssertionError("never full")


def expect(path: Path, count: int) -> None:
    """Compare what has been synchronised, as the store has it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for number in range(count):
            assert file.read(MIB) == noise(number), f"MiB {number}"


def writable(path: Path, count: int = 1) -> bool:
    """Whether ``count`` MiB can be written and synchronised."""
    with opened(path) as file:
        try:
            for number in range(count):
                os.pwrite(file, noise(1000 + number), number * MIB)
            os.fsync(file)
        except OSError as error:
            expect_full(error)
            return False
    return True


def test_what_was_synchronised_is_there_and_can_be_read(mounted: OnDisk, disk: Disk) -> None:
    empty = os.statvfs(mounted.path)
    count = fill(mounted.path / "big", disk.mebibytes)
    assert count > disk.room // 2
    expect(mounted.path / "big", count)

    full = os.statvfs(mounted.path)
    assert full.f_bavail * full.f_frsize < 4 * MIB
    # df's total is what is stored and what still fits: about the same when full as when empty
    total = full.f_blocks * full.f_frsize
    assert total == pytest.approx(empty.f_blocks * empty.f_frsize, rel=0.2)
    assert full.f_bavail <= full.f_bfree <= full.f_blocks

    mounted.kill()
    mounted.check()
    mounted.mount()
    expect(mounted.path / "big", count)
    (mounted.path / "big").unlink()
    wait_until(lambda: writable(mounted.path / "again"))


def test_removing_a_volume_makes_room_by_itself(mounted: OnDisk, disk: Disk) -> None:
    assert writable(mounted.path / "keep", 8)
    fill(mounted.path / "big", disk.mebibytes)
    (mounted.path / "big").unlink()
    wait_until(lambda: writable(mounted.path / "again"))
    wait_until(lambda: writable(mounted.path / "more", 8))
    assert os.statvfs(mounted.path).f_bavail * 4096 > disk.room * MIB // 4
    mounted.remount()
    for name in ("keep", "more"):
        with (mounted.path / name).open("rb") as file:
            for number in range(8):
                assert file.read(MIB) == noise(1000 + number)


def write_too_much(path: Path, mebibytes: int) -> None:
    """Write more than there is room for, and ask only once whether it went down: it did not."""
    with opened(path) as file:
        for number in range(mebibytes):
            try:
                os.pwrite(file, noise(number), number * MIB)
            except OSError as error:
                expect_full(error)
                break
        with pytest.raises(OSError, match="No space left"):
            os.fsync(file)


def failures(mounted: Mounted) -> dict[str, int]:
    """How many requests of the kernel the mount has answered with which error."""
    told = json.loads(difffs("stats", mounted.path, "--json").stdout)
    counted: dict[str, int] = told["failed_requests"]
    return counted


def test_what_was_refused_once_does_not_keep_it_mounted(mounted: OnDisk, disk: Disk) -> None:
    """The kernel tells the error of a write at the next syncfs too, however long ago it was."""
    assert writable(mounted.path / "keep", 8)
    write_too_much(mounted.path / "big", disk.mebibytes + 32)
    assert failures(mounted)["ENOSPC"] >= 1
    (mounted.path / "big").unlink()
    wait_until(lambda: writable(mounted.path / "again"))
    (line,) = difffs("umount", mounted.path).stderr.splitlines()
    assert "some writes were refused (No space left on device)" in line
    assert mount_at(mounted.path) is None
    mounted.check()
    mounted.mount()
    for name, count in (("keep", 8), ("again", 1)):
        with (mounted.path / name).open("rb") as file:
            for number in range(count):
                assert file.read(MIB) == noise(1000 + number)


def test_what_is_refused_now_keeps_it_mounted(mounted: OnDisk, disk: Disk) -> None:
    with opened(mounted.path / "big") as file:
        os.ftruncate(file, (disk.mebibytes + 32) * MIB)
        with mmap.mmap(file, 0) as memory:
            for number in range(disk.mebibytes + 32):
                memory[number * MIB : (number + 1) * MIB] = noise(number)
            assert "No space left" in complaint("umount", mounted.path, status=12)
    assert mount_at(mounted.path) is not None
    assert "No space left" in complaint("umount", mounted.path, status=12)
    difffs("umount", "--force", mounted.path)


def test_truncating_a_volume_makes_room_by_itself(mounted: OnDisk, disk: Disk) -> None:
    count = fill(mounted.path / "big", disk.mebibytes)
    os.truncate(mounted.path / "big", 4 * MIB)
    wait_until(lambda: writable(mounted.path / "again", 8))
    assert count > 4
    expect(mounted.path / "big", 4)


def test_room_made_outside_the_store_is_enough(mounted: OnDisk, disk: Disk) -> None:
    """What waited for room is then stored; nobody has to write it again."""
    ballast = disk.path / "ballast"
    ballast.write_bytes(b"".join(map(noise, range(8))))
    with opened(mounted.path / "big") as file:
        for number in range(disk.mebibytes):
            try:
                os.pwrite(file, noise(number), number * MIB)
                os.fsync(file)
            except OSError as error:
                expect_full(error)
                break
        else:
            raise AssertionError("never full")
        ballast.unlink()

        def stored() -> bool:
            try:
                os.fsync(file)
            except OSError as error:
                expect_full(error)
                return False
            return True

        wait_until(stored)
    mounted.remount()
    expect(mounted.path / "big", number)


def test_an_import_that_does_not_fit(disk: Disk) -> None:
    """It leaves nothing behind, and what was there before as it was."""
    store = disk.path / "store"
    small, large = disk.beside / "small.mem", disk.beside / "large.mem"
    small.write_bytes(b"".join(map(noise, range(4))))
    with large.open("wb") as file:
        for number in range(disk.mebibytes):
            file.write(noise(100 + number))
    difffs("import", store, small, "small")
    assert "no space left" in complaint("import", store, large, status=8)
    report = json.loads(difffs("check", store, "--json").stdout)
    assert report["clean"], report
    difffs("export", store, "small", disk.beside / "back.mem")
    assert (disk.beside / "back.mem").read_bytes() == small.read_bytes()
    # room again, for what fits
    difffs("import", store, small, "again")
    report = json.loads(difffs("check", store, "--json").stdout)
    assert report["clean"], report


def test_the_disk_has_what_was_synchronised(mounted: OnDisk, disk: Disk) -> None:
    """As it is found by who copies the store to where there is room."""
    count = fill_somehow(mounted.path / "big", disk.mebibytes)
    assert count > disk.room // 2
    mounted.kill()
    mounted.expected_log = [""]  # the daemon may have said anything
    copy = disk.beside / "copy"
    subprocess.run(["cp", "-a", "--sparse=always", mounted.store, copy], check=True)
    report = json.loads(difffs("check", copy, "--json").stdout)
    assert report["clean"], report
    difffs("export", copy, "big", disk.beside / "big.mem")
    expect(disk.beside / "big.mem", count)
