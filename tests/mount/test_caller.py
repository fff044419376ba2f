"""The size that the kernel has for a file, through the caller's own descriptor."""

import os
from pathlib import Path

from difffs.mount.caller import Caller


def test_identity() -> None:
    assert Caller(lambda: (1, 2, 3)).identity() == (1, 2)


def test_size_of_an_open_file(tmp_path: Path) -> None:
    caller = Caller(lambda: (0, 0, os.getpid()))
    with (tmp_path / "file").open("wb") as stream:
        stream.write(b"x" * 12345)
        stream.flush()
        status = os.fstat(stream.fileno())
        assert caller.cached_size(status.st_ino) is None, "the device is not known yet"
        caller.set_device(status.st_dev)
        assert caller.cached_size(status.st_ino) == 12345
        caller.set_device(os.makedev(99, 99))
        assert caller.cached_size(status.st_ino) is None
        caller.set_device(status.st_dev)
    assert caller.cached_size(status.st_ino) is None


def test_callers_that_cannot_be_seen() -> None:
    caller = Caller(lambda: (0, 0, 0))
    caller.set_device(1)
    assert caller.cached_size(2) is None
