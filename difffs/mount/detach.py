"""Taking a mount point away."""

import errno
import os
import shutil
import subprocess
import time

from difffs import linux
from difffs.errors import EnvironmentProblem, MountProblem
from difffs.loop_device import loop_devices_on

_POLL_SECONDS = 0.02
_BUSY_SECONDS = 0.5


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
    loops = [] if device is None else loop_devices_on(device)
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
