"""The operations over real volumes, without a kernel: errors, handles, orphans, holes, limits."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from difffs.engine import Engine
from difffs.errors import (
    CorruptStore,
    DifffsError,
    PayloadDamaged,
    StoreFull,
    StoreReadOnly,
    VolumeExists,
    VolumeNotFound,
)
from difffs.mount.caller import Caller
from difffs.mount.kernel_tuning import KernelTuning
from difffs.mount.live import LOCK_MEMORY_REQUEST, STATISTICS_REQUEST, unpack_statistics
from difffs.mount.operations import VolumeOperations
from difffs.mount.refining import Refining
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.store import Store
from difffs.volume import Volumes

HIDDEN = "/.fuse_hidden0123456789abcdef"


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[VolumeOperations]:
    """Operations over a new store, which is checked afterwards."""
    with Store.create(tmp_path / "store") as store, Engine(store) as engine:
        volumes = Volumes(engine, buffer_bytes=1 << 20)
        caller = Caller(lambda: (11, 22, os.getpid()))
        made = VolumeOperations(
            *(volumes, caller, KernelTuning(0), lambda: {"answer": 42}, lambda: None),
            Refining(volumes, None, 1.0),
        )
        yield made
        made.close()
        if volumes.failed is None:
            volumes.close()
            assert store.check() == []
        else:
            with pytest.raises(DifffsError):  # by whatever way it ends, nothing is committed
                volumes.close()
            store.abandon()


def volumes_of(operations: VolumeOperations) -> Volumes:
    """Return the volumes under the operations."""
    return operations._volumes


def read(operations: VolumeOperations, path: str | None, size: int, offset: int, fh: int) -> bytes:
    """Return what a reader gets."""
    out = bytearray(size)
    return bytes(out[: operations.read(path, memoryview(out), offset, fh)])


def refused(number: int, call: Callable[[], Any]) -> None:
    """Expect ``call`` to fail with this error number."""
    with pytest.raises(OSError, match="Errno") as caught:
        call()
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), errno.ENOENT),
        (StoreFull("x"), errno.ENOSPC),
        (StoreReadOnly("x"), errno.EROFS),
        (VolumeExists("x"), errno.EEXIST),
        (VolumeNotFound("x"), errno.ENOENT),
    ],
)
def test_routine_errors(operations: VolumeOperations, error: Exception, number: int) -> None:
    assert operations.error_number(error, "read") == number
    assert volumes_of(operations).failed is None


@pytest.mark.expected_log("write: page 3 of volume 5")
def test_damage_is_an_input_output_error_and_logged(operations: VolumeOperations) -> None:
    error = PayloadDamaged("page 3 of volume 5 is damaged")
    assert operations.error_number(error, "write") == errno.EIO
    assert operations.error_number(CorruptStore("page 3 of volume 5"), "write") == errno.EIO
    assert volumes_of(operations).failed is None


def test_a_file_may_grow_and_be_looked_at_thousands_of_times(operations: VolumeOperations) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    for size in range(2000):
        operations.truncate(None, size, handle)
        assert operations.getattr(None, handle)["st_size"] == size


@pytest.mark.expected_log("unexpected error in read")
@pytest.mark.expected_log("writing has stopped")
@pytest.mark.parametrize("error", [ValueError("bug"), OSError("without a number")])
def test_surprises_stop_all_writing(operations: VolumeOperations, error: Exception) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    operations.write(None, b"before", 0, handle)
    assert operations.error_number(error, "read") == errno.EIO
    assert read(operations, None, 10, 0, handle) == b"before"
    changes: list[Callable[[], object]] = [
        lambda: operations.write(None, b"x", 0, handle),
        lambda: operations.truncate(None, 0, handle),
        lambda: operations.create("/other", 0o600, os.O_RDWR),
        lambda: operations.unlink("/file"),
        lambda: operations.mkdir("/directory", 0o700),
        lambda: operations.rename("/file", "/other"),
        lambda: operations.chmod("/file", 0o600),
        lambda: operations.fallocate(None, 3, 0, 10, handle),
        lambda: operations.flush(None, handle),
        lambda: operations.fsync(None, 0, handle),
    ]
    for change in changes:
        with pytest.raises(DifffsError, match="unexpected error in read"):
            change()
    assert operations.readdir("/", 0)[2:] != []


@pytest.mark.expected_log(r"reading /file: .*page 0")
def test_a_damaged_page_is_named_with_its_path(operations: VolumeOperations) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    data = os.urandom(PAGE_SIZE)
    operations.write(None, data, 0, handle)
    operations.fsync(None, 0, handle)
    payloads = volumes_of(operations).store.path / "payloads"
    original = payloads.read_bytes()
    at = original.index(data[:100]) + 50
    with payloads.open("r+b") as stream:
        stream.seek(at)
        stream.write(bytes([original[at] ^ 1]))
    refused(errno.EIO, lambda: read(operations, None, 10, 0, handle))
    with payloads.open("r+b") as stream:
        stream.seek(at)
        stream.write(original[at : at + 1])
    assert read(operations, None, PAGE_SIZE, 0, handle) == data


def test_what_is_made_belongs_to_the_caller(operations: VolumeOperations) -> None:
    operations.create("/file", 0o4640, os.O_RDWR)
    operations.mkdir("/directory", 0o755)
    operations.symlink("/link", "file")
    operations.mknod("/node", stat.S_IFREG | 0o600, 0)
    for name, kind in (("file", stat.S_IFREG), ("directory", stat.S_IFDIR), ("link", stat.S_IFLNK)):
        found = operations.getattr("/" + name)
        assert (found["st_uid"], found["st_gid"]) == (11, 22)
        assert stat.S_IFMT(found["st_mode"]) == kind
    assert operations.readlink("/link") == "file"
    refused(errno.EPERM, lambda: operations.mknod("/pipe", stat.S_IFIFO, 0))
    refused(errno.EPERM, lambda: operations.link("/hard", "/file"))
    names = [name for name, _, _ in operations.readdir("/", 0)]
    assert sorted(names) == [".", "..", "directory", "file", "link", "node"]


def test_attributes(operations: VolumeOperations) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    operations.chmod(None, 0o7777, handle)
    operations.chown("/file", -1, 5)
    operations.utimens("/file", (7, None))
    found = operations.getattr(None, handle)
    assert stat.S_IMODE(found["st_mode"]) == 0o7777
    assert (found["st_uid"], found["st_gid"], found["st_atime"]) == (11, 5, 7)
    operations.utimens(None, (None, 9), handle)
    assert operations.getattr("/file")["st_mtime"] == 9
    operations.utimens("/file", (1 << 64, -(1 << 64)))
    found = operations.getattr("/file")
    assert (found["st_atime"], found["st_mtime"]) == ((1 << 63) - 1, -(1 << 63))
    refused(errno.EINVAL, lambda: operations.chown("/file", -2, 5))
    refused(errno.ENOENT, lambda: operations.getattr("/nothing"))
    refused(errno.EBADF, lambda: operations.getattr(None, 999))
    refused(errno.EISDIR, lambda: operations.open("/", os.O_RDONLY))
    refused(errno.ENOTDIR, lambda: operations.opendir("/file"))
    refused(errno.EISDIR, lambda: read(operations, "/", 1, 0, 999))


def test_opening_can_truncate(operations: VolumeOperations) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    operations.write(None, b"hello", 0, handle)
    operations.open("/file", os.O_WRONLY | os.O_TRUNC)
    assert operations.getattr("/file")["st_size"] == 0


def test_a_hidden_file_is_an_orphan_until_its_last_close(operations: VolumeOperations) -> None:
    """libfuse renames what is unlinked while open, and unlinks it later."""
    one = operations.create("/file", 0o600, os.O_RDWR)
    two = operations.open("/file", os.O_RDONLY)
    operations.write(None, b"hello", 0, one)
    refused(errno.ENOENT, lambda: operations.getattr(HIDDEN))
    operations.rename("/file", HIDDEN)
    assert [name for name, _, _ in operations.readdir("/", 0)] == [".", ".."]
    assert operations.getattr(HIDDEN)["st_nlink"] == 0
    assert read(operations, None, 10, 0, two) == b"hello"
    operations.chmod(HIDDEN, 0o640)
    operations.truncate(HIDDEN, 3)
    operations.release(None, one)
    assert read(operations, None, 10, 0, two) == b"hel"
    assert len(volumes_of(operations).namespace.orphans()) == 1
    operations.release(None, two)
    assert volumes_of(operations).namespace.orphans() == []
    refused(errno.ENOENT, lambda: operations.unlink(HIDDEN))


def test_only_libfuse_hides(operations: VolumeOperations) -> None:
    operations.create("/open", 0o600, os.O_RDWR)
    operations.mkdir("/directory", 0o700)
    closed = operations.create("/closed", 0o600, os.O_RDWR)
    operations.release(None, closed)
    for call in (
        lambda: operations.create(HIDDEN, 0o600, os.O_RDWR),
        lambda: operations.mkdir(HIDDEN, 0o700),
        lambda: operations.symlink(HIDDEN, "x"),
        lambda: operations.rename("/closed", HIDDEN),
        lambda: operations.rename("/directory", HIDDEN),
        lambda: operations.rename("/open", "/directory" + HIDDEN),
    ):
        refused(errno.EPERM, call)


def test_hidden_files_left_open_are_removed_at_the_end(operations: VolumeOperations) -> None:
    operations.create("/file", 0o600, os.O_RDWR)
    operations.rename("/file", HIDDEN)
    operations.close()
    assert volumes_of(operations).namespace.orphans() == []


def test_replacing_frees_the_replaced(operations: VolumeOperations) -> None:
    for name in ("/one", "/two"):
        handle = operations.create(name, 0o600, os.O_RDWR)
        operations.write(None, os.urandom(PAGE_SIZE), 0, handle)
        operations.release(None, handle)
    operations.rename("/one", "/two")
    volumes_of(operations).flush()
    assert volumes_of(operations).store.page_counts()["total"] == 1


def test_holes_only_without_a_writer(operations: VolumeOperations) -> None:
    writer = operations.create("/file", 0o600, os.O_RDWR)
    operations.truncate(None, 10 * PAGE_SIZE, writer)
    operations.write(None, b"x", 5 * PAGE_SIZE, writer)
    reader = operations.open("/file", os.O_RDONLY)
    # This process has no descriptor of it: not even the size is known for sure.
    refused(errno.EINVAL, lambda: operations.lseek(None, 0, os.SEEK_DATA, reader))
    operations.release(None, writer)
    assert operations.lseek(None, 0, os.SEEK_DATA, reader) == 5 * PAGE_SIZE
    assert operations.lseek(None, 0, os.SEEK_HOLE, reader) == 0
    assert operations.lseek(None, 5 * PAGE_SIZE, os.SEEK_HOLE, reader) == 6 * PAGE_SIZE
    refused(errno.ENXIO, lambda: operations.lseek(None, 6 * PAGE_SIZE, os.SEEK_DATA, reader))
    operations.fsync(None, 0, reader)
    assert operations.getattr("/file")["st_blocks"] == 8


def test_fallocate(operations: VolumeOperations) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    operations.write(None, b"x" * 8192, 0, handle)

    def size() -> int:
        return operations.getattr("/file")["st_size"]

    operations.fallocate(None, 3, 100, 50, handle)
    assert read(operations, None, 200, 0, handle) == b"x" * 100 + bytes(50) + b"x" * 50
    operations.fallocate(None, 0x11, 8000, 1000, handle)
    assert size() == 8192
    operations.fallocate(None, 0x10, 8000, 1000, handle)
    assert size() == 9000
    operations.fallocate(None, 1, 0, 20_000, handle)
    assert size() == 9000
    operations.fallocate(None, 0, 0, 20_000, handle)
    assert size() == 20_000
    for mode in (2, 8, 0x20, 0x40):
        refused(errno.EOPNOTSUPP, partial(operations.fallocate, None, mode, 0, 1, handle))
    refused(errno.EINVAL, lambda: operations.fallocate(None, 0, 0, 0, handle))
    refused(errno.EFBIG, lambda: operations.fallocate(None, 0, MAXIMUM_VOLUME_SIZE, 1, handle))
    refused(errno.EFBIG, lambda: operations.truncate(None, MAXIMUM_VOLUME_SIZE + 1, handle))
    refused(errno.EFBIG, lambda: operations.write(None, b"x", MAXIMUM_VOLUME_SIZE, handle))


def test_statistics(operations: VolumeOperations) -> None:
    directory = operations.opendir("/")
    file = operations.create("/file", 0o600, os.O_RDWR)
    reply = operations.ioctl(None, STATISTICS_REQUEST, directory)
    assert unpack_statistics(reply) == {"answer": 42}
    refused(errno.ENOTTY, lambda: operations.ioctl(None, 0x5401, directory))
    refused(errno.ENOTTY, lambda: operations.ioctl(None, STATISTICS_REQUEST, file))
    refused(errno.EPERM, lambda: operations.ioctl(None, LOCK_MEMORY_REQUEST, directory))
    operations.releasedir(None, directory)


def test_disk_usage(operations: VolumeOperations) -> None:
    handle = operations.create("/file", 0o600, os.O_RDWR)
    before = operations.statfs("/")
    operations.write(None, os.urandom(1 << 20), 0, handle)
    operations.fsync(None, 0, handle)
    after = operations.statfs("/")
    used = [(found["f_blocks"] - found["f_bfree"]) * found["f_frsize"] for found in (before, after)]
    assert 1 << 20 <= used[1] - used[0] < 3 << 19
    assert after["f_files"] - after["f_ffree"] == 2
