"""A file that appears under its name only when it is whole.

Until then it has no name at all, where the file system can do that (``O_TMPFILE``), so that not
even SIGKILL leaves anything behind. Elsewhere it has a hidden name beside its own.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from difffs.errors import NO_ROOM, OutputProblem, UsageError
from difffs.mount.live import mount_at
from difffs.standard_streams import output_problem

_NOT_TO_BE_REPLACED = (errno.EPERM, errno.EACCES, errno.EROFS)


def unwritable(where: str, error: OSError) -> UsageError | OutputProblem:
    """Return the error of a file that cannot be opened for writing, or get its name."""
    if error.errno in NO_ROOM:
        return output_problem(where, error)
    return UsageError(f"{where} cannot be written: {error.strerror}; choose another path")


@contextmanager
def whole_file(path: str, where: str) -> Iterator[int]:
    """Yield a descriptor; what the block has written to it is on disk under `path` afterwards.

    A file that is there is replaced in one step, and stays as it is when the block fails. `where`
    names the file in errors: ``UsageError`` before the block when it cannot be made or replaced,
    as far as that can be known, else after it; ``OutputProblem`` for want of room.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    if os.path.basename(path) in ("", ".", ".."):
        raise UsageError(f"{where} names a directory, and there is none; name a file")
    if not os.path.isdir(os.path.dirname(path) or ".") or not os.path.isdir(folder):
        raise UsageError(
            f"{where} cannot be written: its directory is missing; make it, or choose another path"
        )
    if _is_mount_point(target):
        raise UsageError(f"{where} is a mount point, and cannot be replaced; choose another path")
    hidden = f".{os.fsdecode(os.fsencode(name)[:200])}.{secrets.token_hex(6)}"
    try:
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise unwritable(where, error) from None
    try:
        file = -1
        try:
            _require_replaceable(directory, name)
            file, unnamed = _opened(directory, hidden)
        except OSError as error:
            raise unwritable(where, error) from None
        yield file
        try:
            os.fsync(file)
        except OSError as error:
            raise output_problem(where, error) from error
        try:
            if not unnamed or not _linked(file, directory, name):
                if unnamed:
                    _link(file, directory, hidden)
                os.rename(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            raise unwritable(where, error) from error
    except BaseException:
        with suppress(OSError):
            os.unlink(hidden, dir_fd=directory)
        raise
    finally:
        if file >= 0:
            os.close(file)
        os.close(directory)


def _is_mount_point(path: str) -> bool:
    try:
        return mount_at(path) is not None
    except OSError:  # no /proc, as in a bare chroot: the end will tell
        return False


def _require_replaceable(directory: int, name: str) -> None:
    """Raise the ``OSError`` of a file that must stay: immutable, or in somebody's sticky directory.

    The kernel looks whether a name may be taken away before it looks at what kind of file it is.
    """
    try:
        os.rmdir(name, dir_fd=directory)  # it is no directory, so that nothing can come of it
    except OSError as error:
        if error.errno in _NOT_TO_BE_REPLACED:
            raise


def _opened(directory: int, hidden: str) -> tuple[int, bool]:
    """Return a new file, and whether it has no name."""
    if os.path.exists("/proc/self/fd"):  # through which it gets one
        with suppress(OSError):  # no such files there; or the last line says what is wrong
            return os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o600, dir_fd=directory), True
    return os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=directory), False


def _link(file: int, directory: int, name: str) -> None:
    # A directory's descriptor has Python call linkat(2), which follows the link in /proc.
    os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=directory, follow_symlinks=True)


def _linked(file: int, directory: int, name: str) -> bool:
    """Give the file its name, unless there is another of that name."""
    try:
        _link(file, directory, name)
    except FileExistsError:
        return False
    return True
