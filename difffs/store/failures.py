"""What an error of the system means for a store: one table. (LMDB's come here by their numbers:
difffs/store/index_errors.py.)

| verdict | what follows | error |
|---|---|---|
| retry | nothing is lost, the same is tried again later | StoreFull, OutOfResources |
| refuse | the store cannot be written; what is there can be read | StoreReadOnly |
| stop | what was written may be gone: nothing is written any more | MediumFailed |

An error number that is in no line stops.
"""

import errno
from pathlib import Path

from difffs.errors import (
    NO_ROOM,
    DifffsError,
    MediumFailed,
    OutOfResources,
    StoreFull,
    StoreReadOnly,
)

NO_RESOURCES = frozenset(
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR, errno.ENOBUFS}
)
NOT_WRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def explained(error: OSError, path: Path, doing: str = "written") -> DifffsError:
    """The error to raise instead: `path` could not be `doing` ("written", "opened")."""
    return meaning(error.errno or 0, error.strerror or str(error), path, doing)


def meaning(number: int, reason: str, path: Path, doing: str) -> DifffsError:
    """The same for an error number, 0 for one that is unknown, and its words."""
    if number in NO_ROOM:
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
