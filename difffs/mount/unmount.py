"""Taking a mount away again, without losing what is still in the kernel."""

import errno
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

from difffs import linux
from difffs.errors import EnvironmentProblem, MountProblem
from difffs.loop_device import LoopDevice, loop_devices
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at
from difffs.mount.table import Mount, mounts, mounts_everywhere
from difffs.store.lock import use_of

_POLL_SECONDS = 0.02
_BUSY_SECONDS = 0.5
_LOOK_SECONDS = 1.0
"""Between two looks at who still holds a file system; what is seen twice is told."""
_GONE_SECONDS = 60.0
"""How long the lock of a store is waited for whose daemon cannot be seen at work."""
_UNSEEN_SECONDS = 5.0
"""How long a file system may stay after it was unmounted with nobody seen to hold it."""


def write_back(mountpoint: str | os.PathLike[str]) -> str:
    """Have the kernel send all written pages to the daemon. ``OSError`` when it cannot.

    Returns a warning, or nothing: pages that no file has room for are lost already, which their
    writers were told at ``fsync`` and ``close``.
    """
    warning = ""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(2):
            try:
                linux.synchronize_file_system(directory)
            except OSError as error:
                if error.errno == errno.EFBIG:
                    warning = (
                        f"{os.fspath(mountpoint)}: what was written beyond the largest size of a "
                        "file (16 TiB) is not in the store; all else is"
                    )
                    continue  # an error is told once: is there another one?
                # ESTALE: the times of a file could not be told, because it was unlinked while
                # open and its directory removed as well. Nobody will ever look at them.
                if error.errno != errno.ESTALE:
                    raise OSError(error.errno, error.strerror, os.fspath(mountpoint)) from None
            break
    finally:
        os.close(directory)
    return warning


def commit(mountpoint: str | os.PathLike[str]) -> None:
    """Have the daemon write all it has been sent to the store. ``OSError`` when it cannot."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def detach(mountpoint: str, *, lazy: bool = False, device: int | None = None) -> None:
    """Unmount. With ``lazy``, the mount point is free at once and open files go on working.

    ``device``, if others than its daemon ask, is the mount's ``st_dev``: loop devices that lie on
    it are named. ``MountProblem`` when the mount is in use or is none.
    """
    detach_once = _detach_as_root if os.geteuid() == 0 else _detach_as_user
    end = time.monotonic() + _BUSY_SECONDS
    while not detach_once(mountpoint, lazy):
        if time.monotonic() > end:
            raise MountProblem(f"{mountpoint} is in use: {_how_to_free(mountpoint, device)}")
        # Often only somebody who looked at it in passing.
        time.sleep(_POLL_SECONDS)


def _how_to_free(mountpoint: str, device: int | None) -> str:
    loops = [] if device is None else _loop_devices_on(device)
    if loops:  # they are no process's
        names = ", ".join(f"{loop.path} lies on {loop.file_name}" for loop in loops)
        return f"{names}; difffs swapoff, or losetup --detach {loops[0].path}"
    return f"close its files (fuser -vm {mountpoint} lists the users)"


def _detach_as_root(mountpoint: str, lazy: bool) -> bool:
    """Return whether it worked; False when the mount is in use."""
    try:
        linux.unmount(mountpoint, lazy=lazy)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise MountProblem(f"{mountpoint} cannot be unmounted: {error.strerror}") from None
    return True


def _detach_as_user(mountpoint: str, lazy: bool) -> bool:
    """Return whether it worked; False when the mount is in use."""
    program = shutil.which("fusermount3")
    if program is None:
        raise EnvironmentProblem("fusermount3 is missing: install it (Debian: apt install fuse3)")
    command = [program, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    result = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if result.returncode == 0:
        return True
    text = result.stderr.strip() or f"fusermount3 exited with {result.returncode}"
    if "busy" in text:
        return False
    raise MountProblem(f"{mountpoint} cannot be unmounted: {text}")


def holders_of(device: int) -> list[str]:
    """Say where the file system with this ``st_dev`` is mounted, in whatever mount namespace, and
    which loop devices lie on its files; as far as this process can look."""
    found = [
        f"mounted on {place.mount.mountpoint} by process {place.process} ({place.command})"
        for place in mounts_everywhere()
        if place.mount.device == device
    ]
    found += [
        f"under the loop device {loop.path} ({loop.file_name})" for loop in _loop_devices_on(device)
    ]
    return found


def _loop_devices_on(device: int) -> list[LoopDevice]:
    return [loop for loop in loop_devices() if loop.file_device == device]


def _is_there(device: int) -> bool:
    """Return whether the kernel still has this file system, wherever it is mounted or held."""
    return os.path.exists(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}")


def wait_until_released(
    store: str | os.PathLike[str],
    device: int | None = None,
    *,
    read_only: bool = False,
    committed: bool = True,
    look_seconds: float = _LOOK_SECONDS,
    unseen_seconds: float = _UNSEEN_SECONDS,
    gone_seconds: float = _GONE_SECONDS,
) -> None:
    """Wait until no process holds the store's lock any more.

    ``device`` is the ``st_dev`` of the file system that was unmounted; one that was ``read_only``
    has no lock of its own, and is waited for until the kernel has given it up. As long as it has
    been given up and the daemon lives, the daemon is writing, and is waited for. ``MountProblem``
    names who holds the file system, or says that nothing is known: ``unseen_seconds`` after it
    should have gone, or ``gone_seconds`` after the daemon has. ``committed`` is for that sentence.
    """
    path = Path(store) / "lock"
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # not visible from here: there is nothing to wait on
    seen: set[str] = set()
    began = time.monotonic()
    next_look = began + look_seconds / 2
    at_work = began
    # Once and for all: another file system may soon get the same number.
    given_up = device is None or not _is_there(device)
    try:
        while not _is_free(lock) or (read_only and not given_up):
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            given_up = given_up or device is None or not _is_there(device)
            if now < next_look:
                continue
            next_look = now + look_seconds
            holders = [] if given_up or device is None else holders_of(device)
            lasting = [holder for holder in holders if holder in seen]
            seen = set(holders)
            if given_up and not holders and use_of(Path(store)).process is not None:
                at_work = now
            unseen = not given_up and not holders and now - began > unseen_seconds
            if lasting or unseen or now - at_work > gone_seconds:
                raise MountProblem(_held(store, lasting, committed=committed))
    finally:
        os.close(lock)


def _is_free(lock: int) -> bool:
    """Return whether nobody has the store open for writing."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def _held(store: str | os.PathLike[str], holders: list[str], *, committed: bool) -> str:
    done = "everything is committed" if committed else "what could be written is committed"
    if holders:
        return (
            f"{done}, but {os.fspath(store)} is still {'; '.join(holders)}: "
            "unmount it there, or end that process; the daemon ends with the last of them"
        )
    return (
        f"{done} and the mount point is free, but {os.fspath(store)} stays in use by "
        f"{use_of(Path(store)).describe()}, and what holds it cannot be seen from here: look in "
        "other process namespaces, and at overlays on it"
    )


def _same_elsewhere(mount: Mount) -> list[str]:
    """Return the other mount points of the same file system in this mount namespace."""
    found = [other.mountpoint for other in mounts() if other.device == mount.device]
    found.remove(mount.mountpoint)
    return found


def unmount(mountpoint: str, *, force: bool = False) -> list[str]:
    """Commit everything, unmount, and return when the daemon has closed the store.

    Returns warnings. ``MountProblem`` names what is in the way; the mount then still works, or, if
    somebody out of sight has it mounted as well, everything is committed. With ``force``, data
    that cannot be written is given up.
    """
    mount = mount_at(mountpoint)
    if mount is None or mount.kind != FILE_SYSTEM_TYPE:
        raise MountProblem(f"{mountpoint} is not a difffs mount: findmnt -t {FILE_SYSTEM_TYPE}")
    elsewhere = _same_elsewhere(mount)
    if elsewhere:
        raise MountProblem(
            f"{mountpoint} stays mounted, the same file system is also mounted on {elsewhere[-1]}: "
            f"umount {elsewhere[-1]} first (and to take only {mountpoint} away: umount "
            f"{mountpoint})"
        )
    warnings = []
    committed = True
    try:
        warning = write_back(mount.mountpoint)
        if warning:
            warnings.append(warning)
        commit(mount.mountpoint)
    except OSError as error:
        gone = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        if not gone and not force:
            raise MountProblem(
                f"{mountpoint} stays mounted, its data could not be written: {error.strerror}; "
                f"see {mount.source}/log (umount --force gives the data up)"
            ) from error
        # If the daemon is gone, only the mount point is left to be freed.
        committed = False
    detach(mount.mountpoint, device=mount.device)
    wait_until_released(
        mount.source,
        mount.device,
        read_only=committed and "ro" in mount.options,
        committed=committed,
    )
    return warnings
