"""Files and directories in a real mount behave as on any Linux file system."""

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from difffs.linux import synchronize_file_system
from tests.integration.harness import Mounted

pytestmark = pytest.mark.integration

PAGE = 4096
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE = 1, 2, 8, 16
NOREPLACE, EXCHANGE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(file: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2), which Python has only without its modes."""
    if _libc.fallocate(file, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def rename(old: Path, new: Path, flags: int) -> None:
    """Call renameat2(2)."""
    here = -100
    if _libc.renameat2(here, os.fsencode(old), here, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Open a file for the time of the context."""
    file = os.open(path, flags, 0o644)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def opened_until_crash(path: Path) -> Iterator[int]:
    """Open a file whose mount is gone before the file is closed."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    yield file
    with refused(errno.ENOTCONN):
        os.close(file)


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect an OSError with this number."""
    with pytest.raises(OSError, match="Errno") as caught:
        yield
    assert caught.value.errno == number, errno.errorcode.get(caught.value.errno or 0)


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes that differ from page to page."""
    words = [(seed << 32 | index).to_bytes(8, "little") for index in range(-(-length // 8))]
    return b"".join(words)[:length]


def test_unaligned_writes_and_reads(mount: Mounted) -> None:
    path = mount.path / "file"
    model = bytearray(100_000)
    with opened(path) as file:
        for offset, length in ((0, 10), (4090, 12), (50_000, 9000), (8192, 4096), (99_999, 1)):
            data = pattern(length, offset)
            assert os.pwrite(file, data, offset) == length
            model[offset : offset + length] = data
        for offset, length in ((0, 100_000), (4095, 2), (99_990, 100), (200_000, 5)):
            assert os.pread(file, length, offset) == model[offset : offset + length]
    mount.remount()
    assert path.read_bytes() == model


def test_append(mount: Mounted) -> None:
    path = mount.path / "log"
    with path.open("ab") as stream:
        stream.write(b"one\n")
    with path.open("ab") as stream:
        stream.write(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"


def test_truncate_both_ways(mount: Mounted) -> None:
    path = mount.path / "file"
    path.write_bytes(b"x" * 10_000)
    os.truncate(path, 5000)
    assert path.read_bytes() == b"x" * 5000
    os.truncate(path, 20_000)
    assert path.read_bytes() == b"x" * 5000 + bytes(15_000)
    mount.remount()
    assert path.read_bytes() == b"x" * 5000 + bytes(15_000)
    with opened(path) as file:
        os.ftruncate(file, 1)
        assert os.fstat(file).st_size == 1
        os.ftruncate(file, 3)
        assert os.pread(file, 10, 0) == b"x\0\0"
    path.write_bytes(b"")
    assert path.stat().st_size == 0


def test_sparse_file_of_16_tebibytes(mount: Mounted) -> None:
    path = mount.path / "huge"
    size = 16 << 40
    path.touch()
    os.truncate(path, size)
    with opened(path) as file:
        os.pwrite(file, b"end", size - 3)
        os.pwrite(file, b"middle", 8 << 40)
        assert os.pread(file, 10, size - 5) == b"\0\0end"
        with refused(errno.EFBIG):
            os.ftruncate(file, size + 1)
        with refused(errno.EFBIG):
            os.posix_fallocate(file, size, 1)
    direct = opened(path, os.O_RDWR | os.O_DIRECT)
    with direct as file, mmap.mmap(-1, PAGE) as page, refused(errno.EFBIG):
        os.pwritev(file, [page], size)
    mount.remount()
    with opened(path) as file:
        assert os.fstat(file).st_size == size
        assert os.pread(file, 6, 8 << 40) == b"middle"
        assert os.pread(file, 3, size - 3) == b"end"
        assert os.pread(file, 1 << 20, 1 << 40) == bytes(1 << 20)
    assert path.stat().st_blocks <= 16
    assert mount.statistics()["pages"]["total"] <= 2
    path.unlink()
    assert mount.statistics()["pages"]["total"] == 0


def test_punched_pages_are_freed(mount: Mounted) -> None:
    path = mount.path / "file"
    model = bytearray(os.urandom(64 * PAGE))
    with opened(path) as file:
        os.write(file, model)
        os.fsync(file)
        assert mount.statistics()["pages"]["total"] == 64
        for offset, length in ((PAGE, 8 * PAGE), (20 * PAGE + 100, 3 * PAGE), (40 * PAGE + 9, 50)):
            fallocate(file, PUNCH_HOLE | KEEP_SIZE, offset, length)
            model[offset : offset + length] = bytes(length)
        assert os.pread(file, len(model), 0) == model
        assert mount.statistics()["pages"]["total"] == 64 - 8 - 2
        fallocate(file, PUNCH_HOLE | KEEP_SIZE, 60 * PAGE, 100 * PAGE)
        del model[60 * PAGE :]
        model += bytes(4 * PAGE)
    mount.remount()
    assert path.read_bytes() == model
    assert mount.statistics()["pages"]["total"] == 64 - 8 - 2 - 4


def test_zero_range_and_allocation(mount: Mounted) -> None:
    path = mount.path / "file"
    path.write_bytes(b"x" * 3 * PAGE)
    with opened(path) as file:
        fallocate(file, ZERO_RANGE, 100, PAGE)
        assert os.pread(file, 3 * PAGE, 0) == b"x" * 100 + bytes(PAGE) + b"x" * (2 * PAGE - 100)
        fallocate(file, ZERO_RANGE, 2 * PAGE, 2 * PAGE)
        assert os.fstat(file).st_size == 4 * PAGE
        fallocate(file, ZERO_RANGE | KEEP_SIZE, 4 * PAGE, PAGE)
        fallocate(file, KEEP_SIZE, 0, 100 * PAGE)
        assert os.fstat(file).st_size == 4 * PAGE
        os.posix_fallocate(file, 0, 8 * PAGE)
        assert os.fstat(file).st_size == 8 * PAGE
        with refused(errno.EOPNOTSUPP):
            fallocate(file, COLLAPSE_RANGE, 0, PAGE)
    assert path.read_bytes()[2 * PAGE :] == bytes(6 * PAGE)


def test_holes_are_found_once_writers_are_gone(mount: Mounted) -> None:
    path = mount.path / "file"
    with opened(path) as file:
        os.ftruncate(file, 1 << 30)
        os.pwrite(file, b"a" * PAGE, 1 << 20)
        os.pwrite(file, b"b" * 2 * PAGE, 512 << 20)
        # The kernel may still hold pages back: everything counts as data meanwhile.
        assert os.lseek(file, 0, os.SEEK_DATA) == 0
        assert os.lseek(file, 0, os.SEEK_HOLE) == 1 << 30
        os.pwrite(file, b"c", 1 << 30)
        assert os.lseek(file, 1 << 30, os.SEEK_DATA) == 1 << 30
        assert os.lseek(file, 1 << 30, os.SEEK_HOLE) == (1 << 30) + 1
        with refused(errno.ENXIO):
            os.lseek(file, (1 << 30) + 1, os.SEEK_DATA)
        os.ftruncate(file, 1 << 30)
    with opened(path, os.O_RDONLY) as file:
        assert os.lseek(file, 0, os.SEEK_HOLE) == 0
        assert os.lseek(file, 0, os.SEEK_DATA) == 1 << 20
        assert os.lseek(file, 1 << 20, os.SEEK_HOLE) == (1 << 20) + PAGE
        assert os.lseek(file, 2 << 20, os.SEEK_DATA) == 512 << 20
        with refused(errno.ENXIO):
            os.lseek(file, 600 << 20, os.SEEK_DATA)
        with refused(errno.ENXIO):
            os.lseek(file, 1 << 30, os.SEEK_HOLE)


def test_copying_a_file_that_is_being_written_misses_nothing(mount: Mounted) -> None:
    """Pages that only the kernel has must not look like holes to cp."""
    source, target = mount.path / "source", mount.path / "target"
    with opened(source) as file:
        os.ftruncate(file, 4 << 20)
        os.pwrite(file, b"fresh", 1 << 20)
        with mmap.mmap(file, 4 << 20) as memory:
            memory[3 << 20 : (3 << 20) + 5] = b"dirty"
            subprocess.run(["cp", source, target], check=True)
    content = target.read_bytes()
    assert len(content) == 4 << 20
    assert content[1 << 20 : (1 << 20) + 5] == b"fresh"
    assert content[3 << 20 : (3 << 20) + 5] == b"dirty"


def test_copying_a_file_that_grows_misses_nothing(mount: Mounted) -> None:
    """Even what the kernel has not told anybody: neither the bytes nor the size."""
    source, target = mount.path / "source", mount.path / "target"
    with opened(source) as file:
        os.ftruncate(file, 1 << 20)
        os.fsync(file)
        os.pwrite(file, b"appended", 2 << 20)
        subprocess.run(["cp", source, target], check=True)
    assert target.read_bytes() == bytes(2 << 20) + b"appended"


def test_copies_stay_sparse(mount: Mounted) -> None:
    source, target = mount.path / "source", mount.path / "target"
    with opened(source) as file:
        os.ftruncate(file, 64 << 30)
        os.pwrite(file, b"data", 40 << 30)
    subprocess.run(["cp", "--sparse=auto", source, target], check=True, timeout=30)
    assert target.stat().st_size == 64 << 30
    assert target.stat().st_blocks < 1000
    with opened(target, os.O_RDONLY) as file:
        assert os.pread(file, 6, 40 << 30) == b"data\0\0"


def test_shared_memory_mappings(mount: Mounted) -> None:
    path = mount.path / "memory"
    size = 8 << 20
    with opened(path) as file:
        os.ftruncate(file, size)
        with mmap.mmap(file, size, mmap.MAP_SHARED) as memory:
            for page in range(0, size // PAGE, 3):
                memory[page * PAGE : page * PAGE + 16] = page.to_bytes(16, "big")
            memory.flush()
            assert os.pread(file, 16, 3 * PAGE) == (3).to_bytes(16, "big")
            os.pwrite(file, b"from write", 5)
            assert memory[5:15] == b"from write"
    mount.remount()
    with opened(path) as file, mmap.mmap(file, size) as memory:
        for page in range(3, size // PAGE, 3):
            assert memory[page * PAGE : page * PAGE + 16] == page.to_bytes(16, "big")
            assert memory[(page - 1) * PAGE : page * PAGE] == bytes(PAGE)


def test_what_was_synced_from_a_mapping_survives_a_crash(mount: Mounted) -> None:
    path = mount.path / "memory"
    content = os.urandom(1 << 20)
    with opened_until_crash(path) as file:
        os.ftruncate(file, 1 << 20)
        with mmap.mmap(file, 1 << 20) as memory:
            memory[:] = content
            memory.flush()
            mount.kill()
    mount.check()
    mount.mount()
    assert path.read_bytes() == content


def test_removing_files_that_are_being_closed_is_no_error_of_the_file_system(
    mount: Mounted,
) -> None:
    """The kernel sends the times of a removed file afterwards, and has the next syncfs report when
    they could not be set. Files are closed in the background, so this is a race, run often."""
    for number in range(500):
        path = mount.path / f"removed-{number}"
        path.write_bytes(b"content")
        with path.open("rb"):
            pass
        path.unlink()
    directory = os.open(mount.path, os.O_RDONLY)
    try:
        synchronize_file_system(directory)
    finally:
        os.close(directory)


def test_unlinked_but_open(mount: Mounted) -> None:
    path = mount.path / "file"
    with opened(path) as file, opened(path) as other:
        os.write(file, b"x" * 10_000)
        path.unlink()
        assert list(mount.path.iterdir()) == []
        assert not path.exists()
        path.write_bytes(b"another")
        assert os.fstat(file).st_size == 10_000
        assert os.fstat(file).st_nlink == 0
        os.fchmod(file, 0o600)
        os.utime(file, ns=(1, 2))
        os.ftruncate(file, 5000)
        os.pwrite(file, b"y", 6000)
        os.fsync(file)
        assert os.pread(other, 9000, 0) == b"x" * 5000 + bytes(1000) + b"y"
        assert mount.statistics()["pages"]["total"] == 3
    assert mount.statistics()["pages"]["total"] == 1
    assert path.read_bytes() == b"another"


def test_unlinked_but_open_in_a_removed_directory(mount: Mounted) -> None:
    directory = mount.path / "directory"
    directory.mkdir()
    with opened(directory / "file") as file:
        os.write(file, b"x" * PAGE)
        (directory / "file").unlink()
        directory.rmdir()
        os.fsync(file)
        assert os.pread(file, 3, 0) == b"xxx"
        assert mount.statistics()["pages"]["total"] == 1
    assert mount.statistics()["pages"]["total"] == 0


def test_replaced_but_open(mount: Mounted) -> None:
    old, new = mount.path / "old", mount.path / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    with opened(new, os.O_RDONLY) as file:
        old.rename(new)
        assert os.read(file, 10) == b"new"
        assert new.read_bytes() == b"old"
        assert [entry.name for entry in mount.path.iterdir()] == ["new"]
    assert mount.statistics()["pages"]["total"] == 1


def test_an_orphan_of_a_crash_is_removed(mount: Mounted) -> None:
    path = mount.path / "file"
    with opened_until_crash(path) as file:
        os.write(file, os.urandom(10 * PAGE))
        os.fsync(file)
        path.unlink()
        os.fsync(file)
        mount.kill()
    mount.check()
    mount.mount()
    assert mount.statistics()["pages"]["total"] == 0


def test_rename(mount: Mounted) -> None:
    one, two, directory = mount.path / "one", mount.path / "two", mount.path / "directory"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    directory.mkdir()
    with refused(errno.EEXIST):
        rename(one, two, NOREPLACE)
    rename(one, two, EXCHANGE)
    assert (one.read_bytes(), two.read_bytes()) == (b"2", b"1")
    rename(one, directory / "moved", NOREPLACE)
    with refused(errno.ENOTEMPTY):
        directory.rmdir()
    with refused(errno.EISDIR):
        two.rename(directory)
    two.rename(directory / "moved")
    mount.remount()
    assert (directory / "moved").read_bytes() == b"1"
    assert sorted(entry.name for entry in mount.path.iterdir()) == ["directory"]


def test_directories_and_links(mount: Mounted) -> None:
    deep = mount.path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"here")
    link = mount.path / "link"
    link.symlink_to("a/b/c/file")
    assert link.read_bytes() == b"here"
    assert os.readlink(link) == "a/b/c/file"
    assert mount.path.stat().st_nlink == 3
    with refused(errno.EPERM):
        os.link(deep / "file", mount.path / "hard")
    with refused(errno.EPERM):
        os.mkfifo(mount.path / "pipe")
    with refused(errno.ENAMETOOLONG):
        (mount.path / ("n" * 256)).touch()
    (mount.path / ("n" * 255)).touch()
    with refused(errno.ENOENT):
        (mount.path / "missing").read_bytes()
    with refused(errno.EISDIR):
        deep.unlink()
    mount.remount()
    assert link.read_bytes() == b"here"
    assert deep.parent.stat().st_ino == os.stat(mount.path / "a/b").st_ino
    shutil.rmtree(mount.path / "a")
    with refused(errno.ENOENT):
        link.read_bytes()


def test_many_names(mount: Mounted) -> None:
    names = {f"volume-{number:04}" for number in range(2000)} | {"ünïcödé", "with space", "q\"'"}
    for name in names:
        (mount.path / name).touch()
    assert {entry.name for entry in mount.path.iterdir()} == names
    mount.remount()
    assert {entry.name for entry in mount.path.iterdir()} == names


def test_names_that_are_no_text(mount: Mounted) -> None:
    name = os.fsencode(mount.path) + b"/\xff\xfe"
    with open(name, "wb") as stream:
        stream.write(b"x")
    mount.remount()
    assert os.listdir(os.fsencode(mount.path)) == [b"\xff\xfe"]


def test_names_of_unlinked_files_are_reserved(mount: Mounted) -> None:
    (mount.path / "file").touch()
    hidden = mount.path / ".fuse_hidden0123456789abcdef"
    with refused(errno.EPERM):
        hidden.touch()
    with refused(errno.EPERM):
        (mount.path / "file").rename(hidden)
    assert (mount.path / "file").exists()


def test_times_and_modes_are_kept(mount: Mounted) -> None:
    path, directory = mount.path / "file", mount.path / "directory"
    path.write_bytes(b"x" * 5000)
    directory.mkdir()
    os.chmod(path, 0o640)
    os.chmod(directory, 0o1750)
    os.utime(path, ns=(1_111_111_111_123_456_789, 987_654_321_000_000_001))
    os.utime(directory, ns=(5, 6))
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
        os.chown(directory, -1, 99)
    before = [p.stat() for p in (path, directory)]
    mount.remount()
    after = [p.stat() for p in (path, directory)]
    assert stat.S_IMODE(after[0].st_mode) == 0o640
    assert stat.S_IMODE(after[1].st_mode) == 0o1750
    assert after[0].st_mtime_ns == 987_654_321_000_000_001
    for one, other in zip(before, after, strict=True):
        for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_atime_ns", "st_mtime_ns"):
            assert getattr(one, field) == getattr(other, field), field


def test_time_of_one_kind_alone(mount: Mounted) -> None:
    path = mount.path / "file"
    path.touch()
    os.utime(path, ns=(10**18, 2 * 10**18))
    subprocess.run(["touch", "-a", "-d", "@5", path], check=True)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (5 * 10**9, 2 * 10**18)
    subprocess.run(["touch", "-m", path], check=True)
    assert path.stat().st_atime_ns == 5 * 10**9
    assert abs(path.stat().st_mtime - time.time()) < 60


def test_writing_changes_the_time(mount: Mounted) -> None:
    path = mount.path / "file"
    path.touch()
    os.utime(path, ns=(1, 1))
    with opened(path) as file:
        os.write(file, b"x")
    changed = path.stat().st_mtime_ns
    assert abs(changed / 1e9 - time.time()) < 60
    mount.remount()
    assert path.stat().st_mtime_ns == changed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_permissions_are_the_kernels(mount: Mounted) -> None:
    secret = mount.path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    shared = mount.path / "shared"
    shared.mkdir()
    shared.chmod(0o2777)
    os.chown(shared, 0, 77)
    mount.folder.chmod(0o755)
    script = f"cat {secret}; touch {shared}/theirs"
    done = subprocess.run(
        ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Permission denied" in done.stderr
    theirs = (shared / "theirs").stat()
    assert (theirs.st_uid, theirs.st_gid) == (12345, 77)


def test_extended_attributes_are_not_supported(mount: Mounted) -> None:
    path = mount.path / "file"
    path.touch()
    with refused(errno.ENOTSUP):
        os.setxattr(path, "user.colour", b"red")
    with refused(errno.ENOTSUP):
        os.getxattr(path, "user.colour")
    with refused(errno.ENOTSUP):
        os.listxattr(path)


def test_disk_usage_is_true(mount: Mounted) -> None:
    content = os.urandom(16 << 20)
    (mount.path / "one").write_bytes(content)
    (mount.path / "two").write_bytes(content)
    mount.commit()
    ours = os.statvfs(mount.path)
    used = (ours.f_blocks - ours.f_bfree) * ours.f_frsize
    sizes = mount.statistics()["bytes"]
    assert abs(used - sizes["payload"] - sizes["metadata"]) < 1 << 20
    assert 16 << 20 < used < 19 << 20, "the second copy costs next to nothing"
    backing = os.statvfs(mount.store)
    assert abs(ours.f_bavail * ours.f_frsize - backing.f_bavail * backing.f_frsize) < 256 << 20
    assert (mount.path / "one").stat().st_blocks == (16 << 20) // 512
    assert ours.f_namemax == 255


def test_stored_is_what_the_files_occupy(mount: Mounted) -> None:
    for number in range(4):
        content = pattern(1 << 20, number) + os.urandom(2 << 20)
        (mount.path / f"volume{number}").write_bytes(content)
    sizes = mount.statistics()["bytes"]
    assert sizes["stored"] == sizes["payload"] + sizes["slack"] + sizes["metadata"]
    listed = subprocess.run(
        ["du", "-s", "--block-size=1", mount.store], capture_output=True, text=True, check=True
    )
    occupied = int(listed.stdout.split()[0])
    assert abs(sizes["stored"] - occupied) <= occupied / 100


def test_all_at_once(mount: Mounted) -> None:
    """Several processes at work in one mount, each verifying its own file."""
    failures: list[str] = []

    def work(number: int) -> None:
        path = mount.path / f"file{number}"
        for turn in range(12):
            content = pattern(200_000 + turn * 1000, number << 8 | turn)
            path.write_bytes(content)
            if turn % 4 == 0:
                with opened(path) as file:
                    os.fsync(file)
            if path.read_bytes() != content:
                failures.append(f"{path} in turn {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_is_rewritten_while_buffered_is_encoded_once(mount: Mounted) -> None:
    path = mount.path / "file"
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT) as file, mmap.mmap(-1, PAGE) as page:
        for turn in range(50):
            page[:] = pattern(PAGE, turn)
            os.pwritev(file, [page], 0)
        os.fsync(file)
    routes = mount.statistics()["routes"]
    assert sum(work["count"] for work in routes.values()) < 10
