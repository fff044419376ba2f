"""What an error of the system or of LMDB means for a store: one table.

| verdict | what follows | error |
|---|---|---|
| retry | nothing is lost, the same is tried again later | StoreFull, OutOfResources |
| refuse | the store cannot be written; what is there can be read | StoreReadOnly |
| stop | what was written may be gone: nothing is written any more | MediumFailed |

An error number that is in no line stops.
"""

import errno
import os
from pathlib import Path

import lmdb

from difffs.errors import (
    CorruptStore,
    DifffsError,
    MediumFailed,
    OutOfResources,
    StoreFull,
    StoreReadOnly,
)

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""EFBIG: the file system's longest file (16 TiB on ext4), or the process's limit. As with a full
disk, what is freed below that limit is usable again."""

NO_RESOURCES = frozenset(
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.ENOBUFS}
)
NOT_WRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_LMDB_NUMBERS = {
    lmdb.DiskError: errno.ENOSPC,
    lmdb.MapFullError: errno.ENOSPC,
    lmdb.MemoryError: errno.ENOMEM,
    lmdb.ReadonlyError: errno.EACCES,
    lmdb.LockError: errno.EAGAIN,
}
_LMDB_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
)
# py-lmdb's errors carry no number; their texts end with what strerror() says of it.
_NUMBER_OF_TEXT = {os.strerror(number): number for number in errno.errorcode}


def error_number(error: OSError | lmdb.Error) -> int:
    """The errno behind an error; 0 when there is none."""
    if isinstance(error, OSError):
        return error.errno or 0
    for kind, number in _LMDB_NUMBERS.items():
        if isinstance(error, kind):
            return number
    return _NUMBER_OF_TEXT.get(str(error).rpartition(": ")[2], 0)


def explained(error: OSError | lmdb.Error, path: Path, doing: str = "written") -> DifffsError:
    """The error to raise instead: `path` could not be `doing` ("written", "opened")."""
    number = error_number(error)
    reason = os.strerror(number) if number else str(error)
    if isinstance(error, lmdb.MapFullError):
        return StoreFull(
            f"{path} has reached its largest size ({error}); remove volumes, or use another store"
        )
    if isinstance(error, _LMDB_DAMAGE):
        return CorruptStore(
            f"{path} is damaged ({error}); run `difffs check` and restore the store from a copy"
        )
    if number in NO_SPACE:
        return StoreFull(f"no space left for {path} ({reason}); free some there, nothing is lost")
    if number in NO_RESOURCES:
        return OutOfResources(f"{path} could not be {doing}: {reason}; {_REMEDIES.get(number, '')}")
    if number in NOT_WRITABLE:
        return StoreReadOnly(f"{path} cannot be {doing} ({reason}); make the store writable")
    return MediumFailed(
        f"{path} could not be {doing}: {reason}; the last commit stands: see the kernel's log,"
        " unmount, and run `difffs check`"
    )


_REMEDIES = {
    errno.ENOMEM: "free memory, or raise the limit of address space (ulimit -v)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the machine's limit of open files (sysctl fs.file-max)",
    errno.EAGAIN: "try again",
    errno.EINTR: "try again",
    errno.ENOBUFS: "free memory",
}
