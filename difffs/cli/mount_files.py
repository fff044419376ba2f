"""The files of a mount, as a user sees them."""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from difffs.errors import EnvironmentProblem
from difffs.mount.live import read_usage
from difffs.usage import VolumeUsage


class MountFile(NamedTuple):
    """A regular file of a mount."""

    name: str
    """Its path in the mount."""
    path: str
    size: int


def files_of_mount(mountpoint: str) -> Iterator[MountFile]:
    """Iterate over the mount's own files; what is mounted inside it is left out.

    ``EnvironmentProblem`` for a folder that cannot be listed.
    """
    try:
        device = os.stat(mountpoint).st_dev
        pending = [""]
        while pending:
            folder = pending.pop()
            with os.scandir(os.path.join(mountpoint, folder)) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    name = os.path.join(folder, entry.name)
                    if status.st_dev != device:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(name)
                    elif stat.S_ISREG(status.st_mode):
                        yield MountFile(name, entry.path, status.st_size)
    except OSError as error:
        raise _unlisted(mountpoint, error) from error


def usage_of_file(path: str) -> VolumeUsage | None:
    """What a file takes in the store; None where it may not be asked.

    ``EnvironmentProblem`` when the mount does not answer.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (PermissionError, FileNotFoundError):
        return None
    except OSError as error:
        raise _unlisted(path, error) from error
    try:
        return read_usage(file)
    except OSError as error:
        raise _unlisted(path, error) from error
    finally:
        os.close(file)


def _unlisted(path: str, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{error.filename or path} cannot be listed: {error.strerror}; ask its owner, or see the"
        " log in its store"
    )
