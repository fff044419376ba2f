"""Having what the kernel and the daemon still hold written."""

import errno
import os

from difffs import linux

_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def write_back(mountpoint: str | os.PathLike[str]) -> list[str]:
    """Have the kernel send all written pages to the daemon. ``OSError`` when it cannot.

    Returns warnings of pages that are lost already, of which their writers were told at ``fsync``
    and ``close``: those that no file has room for, and those that were refused, on a full disk say.
    The kernel tells of these once more; whether more is refused now, the next look shows, and
    :func:`commit`.
    """
    warnings: dict[int | None, str] = {}
    where = os.fspath(mountpoint)
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            try:
                linux.synchronize_file_system(directory)
            except OSError as error:
                # ESTALE: the times of a file could not be told, because it was unlinked while
                # open and its directory removed as well. Nobody will ever look at them.
                if error.errno == errno.ESTALE:
                    break
                if error.errno == errno.EFBIG and error.errno not in warnings:
                    warnings[error.errno] = (
                        f"{where}: what was written beyond the largest size of a file (16 TiB) is "
                        "not in the store; all else is"
                    )
                elif error.errno in _REFUSED and error.errno not in warnings:
                    warnings[error.errno] = (
                        f"{where}: some writes were refused ({error.strerror}), which their fsync "
                        "or close told, and are not in the store; all else is"
                    )
                else:
                    raise OSError(error.errno, error.strerror, where) from None
                continue  # an error is told once: is there another one?
            break
    finally:
        os.close(directory)
    return list(warnings.values())


def commit(mountpoint: str | os.PathLike[str]) -> None:
    """Have the daemon write all it has been sent to the store. ``OSError`` when it cannot."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
