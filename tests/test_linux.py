"""System calls: what they do, and the error that they raise."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from difffs import linux

ODD = os.fsdecode(b"n\xff\x85")


def test_the_status_that_the_kernel_has(tmp_path: Path) -> None:
    file = tmp_path / ODD
    file.write_bytes(b"12345")
    status = file.stat()
    assert linux.cached_status(file) == (
        (os.major(status.st_dev), os.minor(status.st_dev)),
        status.st_ino,
        5,
    )
    descriptor = os.open(file, os.O_RDONLY)
    linux.synchronize_file_system(descriptor)
    os.close(descriptor)


def test_two_directories_exchange_their_names(tmp_path: Path) -> None:
    one, other = tmp_path / ODD, tmp_path / "other"
    one.mkdir()
    (other / "inside").mkdir(parents=True)
    linux.exchange(one, other)
    assert (one / "inside").is_dir()
    assert os.listdir(other) == []


@pytest.mark.parametrize(
    ("call", "numbers"),
    [
        (linux.cached_status, {errno.ENOENT}),
        (linux.unmount, {errno.ENOENT, errno.EPERM}),
        (lambda path: linux.exchange(path, path), {errno.ENOENT}),
        (linux.swap_off, {errno.ENOENT, errno.EPERM}),
        (lambda path: linux.mount("none", path, "tmpfs", 0), {errno.ENOENT, errno.EPERM}),
        (lambda path: linux.synchronize_file_system(-1), {errno.EBADF}),
        (lambda path: linux.enter_mount_namespace(-1), {errno.EBADF}),
    ],
)
def test_errors(tmp_path: Path, call: Callable[[Path], object], numbers: set[int]) -> None:
    missing = tmp_path / ODD
    with pytest.raises(OSError, match=r"Errno \d+") as caught:
        call(missing)
    assert caught.value.errno in numbers
    assert caught.value.filename in (None, str(missing))
