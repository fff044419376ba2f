"""What LMDB's errors mean: a damaged index, or the error number behind them (failures.py)."""

import errno
import os
from pathlib import Path

import lmdb

from difffs.errors import CorruptStore, DifffsError, StoreFull
from difffs.store import failures

_NUMBERS = {
    lmdb.DiskError: errno.ENOSPC,
    lmdb.MemoryError: errno.ENOMEM,
    lmdb.ReadonlyError: errno.EACCES,
    lmdb.LockError: errno.EAGAIN,
}
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
)
# py-lmdb's errors carry no number; their texts end with what strerror() says of it.
_NUMBER_OF_TEXT = {os.strerror(number): number for number in errno.errorcode}


def error_number(error: lmdb.Error) -> int:
    """The errno behind an error; 0 when there is none."""
    for kind, number in _NUMBERS.items():
        if isinstance(error, kind):
            return number
    return _NUMBER_OF_TEXT.get(str(error).rpartition(": ")[2], 0)


def explained(error: lmdb.Error | OSError, path: Path, doing: str = "written") -> DifffsError:
    """The error to raise instead: `path` could not be `doing` ("written", "opened")."""
    if isinstance(error, OSError):
        return failures.explained(error, path, doing)
    if isinstance(error, lmdb.MapFullError):
        return StoreFull(
            f"{path} has reached its largest size ({error}); remove volumes, or use another store"
        )
    if isinstance(error, _DAMAGE):
        return CorruptStore(
            f"{path} is damaged ({error}); run `difffs check` and restore the store from a copy"
        )
    number = error_number(error)
    return failures.meaning(number, os.strerror(number) if number else str(error), path, doing)
