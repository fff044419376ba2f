"""Making a store of version 1 one of today: a new index beside the old one, and no payload moves.

The old index stays until `format` names the new version, so that a crash at any point leaves a
store of one version or the other.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from difffs._kernels import Extents
from difffs.errors import CorruptStore
from difffs.store import format as names
from difffs.store.bindings import STORE_ID_BYTES, Kind
from difffs.store.failures import explained
from difffs.store.index import Changes, Index, synchronise_directory
from difffs.store.inode import Inode
from difffs.store.lock import StoreLock
from difffs.store.payloads import PayloadFile
from difffs.store.version_1 import FormerIndex

Progress = Callable[[int, int], None]
"""Called with (values converted, values in all)."""

_VALUES_A_COMMIT = 4096
"""Headers and chunks that are converted before a commit of the new index (16 MiB)."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What was done."""

    former: int
    """The version that the store had."""
    objects: int
    """Payloads whose checksums were verified; 0 where there was nothing to do."""


def upgrade_store(path: Path, progress: Progress | None = None) -> Upgrade:
    """Gives a store the current version. O(payload bytes), which are all read and verified.

    StoreBusy while it is open elsewhere. CorruptStore when anything is damaged, StoreFull without
    room for a second index: the store stays as it was.
    """
    names.read_format(path)
    with ExitStack() as cleanup:
        cleanup.callback(StoreLock(path, shared=False).release)
        former = names.read_format(path).version
        if former == names.FORMAT_VERSION:
            rmtree(path / names.FORMER_INDEX_DIRECTORY, ignore_errors=True)
            return Upgrade(former, 0)
        payloads = PayloadFile(path / names.PAYLOAD_FILE, read_only=True)
        cleanup.callback(payloads.close)
        directory = path / names.FORMER_INDEX_DIRECTORY
        index = FormerIndex(directory, payloads.file, verify=True)
        cleanup.callback(index.close)
        objects = _convert(path, index, progress)
    rmtree(path / names.FORMER_INDEX_DIRECTORY, ignore_errors=True)
    return Upgrade(former, objects)


def _convert(path: Path, former: FormerIndex, progress: Progress | None) -> int:
    directory, store_id = path / names.INDEX_DIRECTORY, os.urandom(STORE_ID_BYTES)
    rmtree(directory, ignore_errors=True)  # of an attempt before
    with ExitStack() as undo:
        undo.callback(rmtree, directory, ignore_errors=True)
        try:
            directory.mkdir(mode=0o700)
            with ExitStack() as cleanup:
                index = Index(directory, store_id, read_only=False, create=True)
                cleanup.callback(index.close)
                objects = _fill(former, index, store_id, progress)
            synchronise_directory(directory)
            synchronise_directory(path)
            names.write_format(path, store_id)
        except OSError as error:
            raise explained(error, path, "upgraded") from None
        undo.pop_all()
    synchronise_directory(path)
    return objects


def _fill(former: FormerIndex, index: Index, store_id: bytes, progress: Progress | None) -> int:
    extents = Extents(-1)  # counts the objects
    done, total = 0, sum(map(former.count, Kind))
    changes = Changes(settings=[("id", store_id)])
    for kind in Kind:
        for key, value in _sound(former, kind):
            _add(changes, extents, kind, key, value)
            done += 1
            if done % _VALUES_A_COMMIT == 0:
                index.commit(changes)
                changes = Changes()
            if progress is not None:
                progress(done, total)
    changes.totals = extents.totals()
    index.commit(changes)
    return sum(total[0] for total in changes.totals)


def _sound(former: FormerIndex, kind: Kind) -> Iterator[tuple[bytes, bytes]]:
    """All values of a kind; CorruptStore at the first that is damaged."""
    for key, value, right in former.entries(kind):
        if not right or value is None:
            raise CorruptStore(
                f"{former.path.parent}: {kind.name.lower()} {key.hex()} is damaged, so it cannot be"
                " upgraded and stays as it was: run `difffs check`, and export what can be read"
            )
        if kind is Kind.INODE:
            Inode.unpack(value)
        yield key, value


def _add(changes: Changes, extents: Extents, kind: Kind, key: bytes, value: bytes) -> None:
    if kind is Kind.EXTENT:
        extents.count_objects(value)
        changes.extents.append((int.from_bytes(key, "big"), value))
    elif kind is Kind.TABLE:
        volume, chunk = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
        changes.tables.append((volume, chunk, memoryview(value)))
    elif kind is Kind.INODE:
        changes.inodes.append((int.from_bytes(key, "big"), value))
    else:
        changes.settings.append((key.decode(), value))
