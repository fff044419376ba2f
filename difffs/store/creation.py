"""Making a store: all at once for whoever looks, and again after a process that was killed."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from difffs._kernels import EXTENT_SIDE_BYTES
from difffs.errors import NO_ROOM, DifffsError, NotAStore, StoreReadOnly
from difffs.recipe import Recipe
from difffs.store import format as names
from difffs.store.bindings import STORE_ID_BYTES
from difffs.store.failures import NO_RESOURCES, explained
from difffs.store.index import Changes, Index, synchronise_directory
from difffs.store.namespace import Namespace
from difffs.store.payloads import PayloadFile

_NOT_OURS = "lost+found"
"""What a fresh file system has in its root."""


def can_be_made(directory: Path) -> bool:
    """Whether a store can be made there: nothing is there yet, or an empty directory, or what is
    left of a store whose making was cut off."""
    if not directory.exists():
        return True
    return directory.is_dir() and (_is_empty(directory) or _is_unfinished(directory))


def create_store(directory: Path, recipe: Recipe, *, domains: bool = False) -> None:
    """Makes a store in a new or empty directory. NotAStore when it is neither."""
    try:
        # Guests' memory and swap are for nobody else's eyes.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _only_maker(directory):
            if _is_unfinished(directory):
                _remove_unfinished(directory)
            if not _is_empty(directory):
                raise NotAStore(
                    f"{directory} is neither a difffs store nor empty; name another directory"
                )
            with ExitStack() as undo:
                undo.callback(_remove_unfinished, directory)
                _create_files(directory, recipe, domains=domains)
                undo.pop_all()
    except (FileExistsError, NotADirectoryError):
        raise NotAStore(f"{directory} is not a directory; name another") from None
    except OSError as error:
        raise _creation_error(directory, error) from None


def _create_files(directory: Path, recipe: Recipe, *, domains: bool) -> None:
    index_directory = directory / names.INDEX_DIRECTORY
    index_directory.mkdir(mode=0o700)
    with ExitStack() as cleanup:
        payloads = PayloadFile(directory / names.PAYLOAD_FILE, read_only=False, create=True)
        cleanup.callback(payloads.close)
        # Before there is anything in the index: by `payloads` the next try knows what was cut off.
        synchronise_directory(directory)
        store_id = os.urandom(STORE_ID_BYTES)
        index = Index(index_directory, store_id, read_only=False, create=True)
        cleanup.callback(index.close)
        settings = [
            ("recipe", json.dumps(recipe.to_dict()).encode()),
            ("created", str(time.time()).encode()),
            ("id", store_id),
        ]
        # That a store has domains is told by its root.
        inodes = Namespace(domains=True).take_dirty() if domains else []
        index.commit(Changes(settings=settings, inodes=inodes))
    synchronise_directory(index_directory)
    names.write_format(directory, store_id)
    synchronise_directory(directory)
    synchronise_directory(directory.absolute().parent)


def _creation_error(directory: Path, error: OSError) -> DifffsError:
    if error.errno in NO_ROOM | NO_RESOURCES:
        return explained(error, directory, "made")
    return StoreReadOnly(
        f"{error.filename or directory} cannot be made ({error.strerror}); name another directory"
    )


@contextmanager
def _only_maker(directory: Path) -> Iterator[None]:
    """Within this, no other process makes a store in the directory, or takes what is being made for
    something left behind."""
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _is_empty(directory: Path) -> bool:
    return all(entry == _NOT_OURS for entry in os.listdir(directory))


def _is_unfinished(directory: Path) -> bool:
    """Whether a store was being made here when the process was killed: nothing was ever stored."""
    made = {names.INDEX_DIRECTORY, names.PAYLOAD_FILE, names.NEW_FORMAT_FILE}
    if set(os.listdir(directory)) - made - {_NOT_OURS}:
        return False
    try:
        status = (directory / names.PAYLOAD_FILE).stat()
    except FileNotFoundError:
        index = directory / names.INDEX_DIRECTORY
        return index.is_dir() and not os.listdir(index)
    return status.st_blocks == 0 and status.st_size <= EXTENT_SIDE_BYTES


def _remove_unfinished(directory: Path) -> None:
    """Empties the directory of a store that could not be made. `payloads`, by which it is known,
    goes last: this may be cut off as well."""
    for name in (names.FORMAT_FILE, names.NEW_FORMAT_FILE):
        (directory / name).unlink(missing_ok=True)
    rmtree(directory / names.INDEX_DIRECTORY, ignore_errors=True)
    if (directory / names.INDEX_DIRECTORY).exists():
        return  # the next try removes it
    with suppress(OSError):
        synchronise_directory(directory)
    (directory / names.PAYLOAD_FILE).unlink(missing_ok=True)
