"""Loop devices: block devices over files, as the kernel tells of them."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_BLKROSET = 0x125D

# struct loop_info64: device and inode of the file; the flags behind seven more fields.
_FILE = struct.Struct("=QQ")
_FLAGS = struct.Struct("=52xI")
_STATUS_BYTES = 232
_READ_ONLY = 1


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A loop device that is in use."""

    path: str
    file_name: str
    """As the kernel knows it: the path in the mount namespace of who attached it."""
    file_device: int | None
    """``st_dev`` of the file; None when its file system does not answer, as a dead FUSE mount."""
    file_inode: int | None
    opened_read_only: bool
    """Whether the file itself was opened for reading only."""


def _folder(path: str) -> Path:
    return Path("/sys/block") / os.path.basename(path)


def _file_name(path: str) -> str:
    name = (_folder(path) / "loop" / "backing_file").read_bytes()
    return os.fsdecode(name.removesuffix(b"\n").removesuffix(b" (deleted)"))


def inspect(path: str) -> LoopDevice:
    """Return what is attached to a loop device. ``OSError`` when nothing is."""
    name = _file_name(path)
    status = bytearray(_STATUS_BYTES)
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _LOOP_GET_STATUS64, status)
    except OSError as error:
        # The kernel asks the file system of the file.
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE, errno.EIO):
            raise
        return LoopDevice(path, name, None, None, opened_read_only=False)
    finally:
        os.close(device)
    (flags,) = _FLAGS.unpack_from(status)
    file_device, file_inode = _FILE.unpack_from(status)
    return LoopDevice(path, name, file_device, file_inode, bool(flags & _READ_ONLY))


def loop_devices() -> Iterator[LoopDevice]:
    """Iterate over the loop devices that are in use and can be looked at."""
    with suppress(FileNotFoundError):  # no /sys
        for name in sorted(os.listdir("/sys/block")):
            if name.startswith("loop"):
                with suppress(OSError):  # free, or not ours to look at
                    yield inspect(f"/dev/{name}")


def loop_devices_on(device: int) -> list[LoopDevice]:
    """Return those whose file lies on the file system with this ``st_dev``."""
    return [loop for loop in loop_devices() if loop.file_device == device]


def detach(path: str) -> None:
    """Free a loop device. ``OSError``. While somebody has it open, it stays until they close it."""
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _LOOP_CLR_FD)
    finally:
        os.close(device)


def is_read_only(path: str) -> bool:
    """Return whether a block device refuses writing, by whatever cause."""
    return (_folder(path) / "ro").read_text().strip() == "1"


def set_writable(path: str) -> None:
    """Clear the flag that ``blockdev --setro`` sets, and that outlives detaching. ``OSError``."""
    device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _BLKROSET, struct.pack("=i", 0))
    finally:
        os.close(device)
