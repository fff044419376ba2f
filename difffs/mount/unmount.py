"""Taking a mount away again, without losing what is still in the kernel."""

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from difffs.errors import EnvironmentProblem, MountProblem
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at

_MNT_DETACH = 2
_POLL_SECONDS = 0.02
_BUSY_SECONDS = 0.5


def write_back(mountpoint: str | os.PathLike[str]) -> None:
    """Have the kernel send all written pages to the daemon. ``OSError`` when it cannot."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(directory) != 0:
            number = ctypes.get_errno()
            # ESTALE: the times of a file could not be told, because it was unlinked while open
            # and its directory removed as well. Nobody will ever look at them.
            if number != errno.ESTALE:
                raise OSError(number, os.strerror(number), os.fspath(mountpoint))
    finally:
        os.close(directory)


def commit(mountpoint: str | os.PathLike[str]) -> None:
    """Have the daemon write all it has been sent to the store. ``OSError`` when it cannot."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def detach(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount. With ``lazy``, the mount point is free at once and open files go on working.

    ``MountProblem`` when the mount is in use or is none.
    """
    detach_once = _detach_as_root if os.geteuid() == 0 else _detach_as_user
    end = time.monotonic() + _BUSY_SECONDS
    while not detach_once(mountpoint, lazy):
        if time.monotonic() > end:
            raise MountProblem(
                f"{mountpoint} is in use: close its files (fuser -vm {mountpoint} lists the users)"
            )
        # Often only somebody who looked at it in passing.
        time.sleep(_POLL_SECONDS)


def _detach_as_root(mountpoint: str, lazy: bool) -> bool:
    """Return whether it worked; False when the mount is in use."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), _MNT_DETACH if lazy else 0) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EBUSY:
        return False
    raise MountProblem(f"{mountpoint} cannot be unmounted: {os.strerror(number)}")


def _detach_as_user(mountpoint: str, lazy: bool) -> bool:
    """Return whether it worked; False when the mount is in use."""
    program = shutil.which("fusermount3")
    if program is None:
        raise EnvironmentProblem("fusermount3 is missing: install it (Debian: apt install fuse3)")
    command = [program, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if result.returncode == 0:
        return True
    text = result.stderr.strip() or f"fusermount3 exited with {result.returncode}"
    if "busy" in text:
        return False
    raise MountProblem(f"{mountpoint} cannot be unmounted: {text}")


def wait_until_released(store: str | os.PathLike[str]) -> None:
    """Wait until no process holds the store's lock any more."""
    path = Path(store) / "lock"
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # not visible from here: there is nothing to wait on
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
            else:
                return
    finally:
        os.close(lock)


def unmount(mountpoint: str, *, force: bool = False) -> None:
    """Commit everything, unmount, and return when the daemon has closed the store.

    ``MountProblem`` names what is in the way; the mount then still works. With ``force``, data
    that cannot be written is given up.
    """
    mount = mount_at(mountpoint)
    if mount is None or mount.kind != FILE_SYSTEM_TYPE:
        raise MountProblem(f"{mountpoint} is not a difffs mount: findmnt -t {FILE_SYSTEM_TYPE}")
    try:
        write_back(mount.mountpoint)
        commit(mount.mountpoint)
    except OSError as error:
        gone = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        if not gone and not force:
            raise MountProblem(
                f"{mountpoint} stays mounted, its data could not be written: {error.strerror}; "
                f"see {mount.source}/log (umount --force gives the data up)"
            ) from error
        # The daemon is gone: only the mount point is left to be freed.
    detach(mount.mountpoint)
    wait_until_released(mount.source)
