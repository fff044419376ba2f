"""Where a repaired store is put: in a directory of its own, or in the damaged one's place.

It is made beside the damaged store, which nothing changes, and takes its name at the end, all at
once. A file marks what is not finished, so that a repair that was cut off is known and made anew.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from difffs.errors import CorruptStore, NotAStore, StoreReadOnly
from difffs.linux import exchange
from difffs.store import format as names
from difffs.store.failures import explained
from difffs.store.index import synchronise_directory
from difffs.store.lock import StoreLock
from difffs.store.repair import Progress, Repair, StoreRepair
from difffs.store.store import Store

_MARK = "repair-unfinished"
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Repaired:
    """What came of a repair."""

    repair: Repair
    store: Path
    """Where the repaired store is."""
    damaged: Path | None
    """Where the damaged one is now; None where it is not to be kept apart: it was sound, or the
    repaired one is elsewhere."""


def repair_store(path: Path, into: Path | None, progress: Progress | None = None) -> Repaired:
    """Saves what can be saved of a store into a new directory, or, without one, puts what was saved
    in the store's place and keeps the damaged one beside it. A store that is sound stays.

    O(payload bytes). CorruptStore when nothing can be saved; StoreBusy while somebody writes it;
    NotAStore when `into` is there and not empty. The damaged store is never changed.
    """
    names.read_format(path)
    place = path.resolve()
    target = into if into is not None else place.with_name(f"{place.name}.repaired")
    if into is None:
        _require_exchangeable(place)
    with ExitStack() as cleanup:
        cleanup.callback(StoreLock(path, shared=True).release)
        repair = cleanup.enter_context(StoreRepair(path, progress))
        if into is None and repair.result.is_sound:
            return Repaired(repair.result, path, None)
        with _new_directory(target, place):
            repair.save(target)
            _own_as(target, place)
            _require_clean(target)
        if into is not None:
            (target / _MARK).unlink()
            synchronise_directory(target)
            return Repaired(repair.result, target, None)
        damaged = _exchange(place, target)
        return Repaired(repair.result, path, damaged)


def _require_exchangeable(place: Path) -> None:
    if os.path.ismount(place):
        raise StoreReadOnly(
            f"{place} is where a file system is mounted, so nothing can take its place; name where"
            " the repaired store is to be with --repair-into"
        )


@contextmanager
def _new_directory(target: Path, beside: Path) -> Iterator[None]:
    """Within this, the directory is there and marked as unfinished; it is removed on an error. One
    that a repair has left unfinished is made anew; NotAStore for any other that is not empty."""
    try:
        if (target / _MARK).exists():
            rmtree(target)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.listdir(target):
            raise NotAStore(f"{target} is there already; remove it, or name another directory")
        with ExitStack() as undo:
            undo.callback(rmtree, target, ignore_errors=True)
            (target / _MARK).write_text(f"a repair of {beside} is under way here, or was cut off\n")
            yield
            undo.pop_all()
    except (FileExistsError, NotADirectoryError):
        raise NotAStore(f"{target} is not a directory; name another") from None
    except OSError as error:
        raise explained(error, target, "made") from None


def _own_as(target: Path, place: Path) -> None:
    """The repaired store belongs to whom the damaged one does, with the same mode."""
    status = place.stat()
    with suppress(PermissionError):  # who is not root owns both anyway, or neither
        for folder, _folders, files in os.walk(target):
            for name in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(name, status.st_uid, status.st_gid)
    target.chmod(status.st_mode & 0o7777)


def _require_clean(target: Path) -> None:
    """A repaired store has no findings but lost pages."""
    with Store.open(target, read_only=True) as store:
        found = [each for each in store.check(payloads=False) if each.kind != "lost"]
    if found:
        raise CorruptStore(
            f"the repaired store would not be sound ({found[0]}), so it was removed;"
            " please report this, and keep the damaged one"
        )


def _exchange(place: Path, target: Path) -> Path:
    """Gives the repaired store its place; where the damaged one is then."""
    damaged = _free_name(place)
    try:
        try:
            exchange(target, place)
        except OSError as error:
            if error.errno not in _NO_EXCHANGE:
                raise
            # A file system without that: a crash in between leaves no store of that name.
            place.rename(damaged)
            target.rename(place)
        else:
            target.rename(damaged)
        (place / _MARK).unlink()
        synchronise_directory(place.parent)
    except OSError as error:
        raise explained(error, place, "put in its place") from None
    return damaged


def _free_name(place: Path) -> Path:
    count, found = 1, place.with_name(f"{place.name}.damaged")
    while found.exists():
        count += 1
        found = place.with_name(f"{place.name}.damaged-{count}")
    return found
