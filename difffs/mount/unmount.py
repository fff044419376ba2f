"""Taking a mount away again, without losing what is still in the kernel."""

import errno
import fcntl
import os
import time
from pathlib import Path

from difffs.errors import MountProblem
from difffs.mount.detach import detach
from difffs.mount.holders import holders_of
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at
from difffs.mount.table import Mount, mounts
from difffs.mount.write_back import commit, write_back
from difffs.store.lock import use_of

_POLL_SECONDS = 0.02
_LOOK_SECONDS = 1.0
"""Between two looks at who still holds a file system; what is seen twice is told."""
_GONE_SECONDS = 60.0
"""How long the lock of a store is waited for whose daemon cannot be seen at work."""
_UNSEEN_SECONDS = 5.0
"""How long a file system may stay after it was unmounted with nobody seen to hold it."""


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


def unmount(mountpoint: str, *, force: bool = False, lazy: bool = False) -> list[str]:
    """Commit everything, unmount, and return when the daemon has closed the store.

    Returns warnings. ``MountProblem`` names what is in the way; the mount then still works, or, if
    somebody out of sight has it mounted as well, everything is committed. With ``force``, data
    that cannot be written is given up. With ``lazy``, the mount point is free at once, what is in
    use goes on, and nothing is waited for.
    """
    mount = mount_at(mountpoint)
    if mount is None or mount.kind != FILE_SYSTEM_TYPE:
        raise MountProblem(f"{mountpoint} is not a difffs mount: findmnt -t {FILE_SYSTEM_TYPE}")
    if lazy:
        detach(mount.mountpoint, lazy=True)
        return []
    elsewhere = _same_elsewhere(mount)
    if elsewhere:
        raise MountProblem(
            f"{mountpoint} stays mounted, the same file system is also mounted on {elsewhere[-1]}: "
            f"umount {elsewhere[-1]} first (and to take only {mountpoint} away: umount "
            f"{mountpoint})"
        )
    warnings: list[str] = []
    committed = True
    try:
        warnings += write_back(mount.mountpoint)
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
    try:
        detach(mount.mountpoint, device=mount.device)
    except MountProblem:
        if any(
            (each.mountpoint, each.device) == (mount.mountpoint, mount.device) for each in mounts()
        ):
            raise
        # Its daemon was told to end as well, and was quicker.
    wait_until_released(
        mount.source,
        mount.device,
        read_only=committed and "ro" in mount.options,
        committed=committed,
    )
    return warnings
