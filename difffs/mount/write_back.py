"""Having what the kernel and the daemon still hold written."""

import errno
import os

from difffs import linux


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
