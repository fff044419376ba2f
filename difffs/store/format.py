"""Names and version of a store's files (docs/store-format.md)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from difffs.errors import CorruptStore, EnvironmentProblem, FormatTooNew, NotAStore
from difffs.store.failures import explained

FORMAT_VERSION = 2
FORMAT_FILE = "format"
NEW_FORMAT_FILE = "format.new"
LOCK_FILE = "lock"
INDEX_DIRECTORY = "index-2"
FORMER_INDEX_DIRECTORY = "index"
"""Of version 1: elsewhere, so that the next one could be made beside it."""
PAYLOAD_FILE = "payloads"
DIGEST_FILE = "digests"
SKETCH_FILE = "sketches"
RESERVE_FILE = "reserve"

DICTIONARY = "dictionary/0"
"""The setting with the zstd dictionary of domain 0. Others have none: it holds pieces of pages, and
what compresses well with it tells of them."""

GROUP_DICTIONARY = "group dictionary/0"
"""The setting with the zstd dictionary of groups of domain 0."""

_FIRST_LINE = "difffs store"
_ID_LINE = re.compile("id ([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """What the file `format` says."""

    version: int
    store_id: bytes
    """16 bytes; none in version 1."""


def write_format(store: Path, store_id: bytes) -> None:
    """Marks a directory as a store of the current version, all at once; the last step of making or
    upgrading one."""
    with (store / NEW_FORMAT_FILE).open("w") as file:
        file.write(f"{_FIRST_LINE}\nversion {FORMAT_VERSION}\nid {store_id.hex()}\n")
        file.flush()
        os.fsync(file.fileno())
    (store / NEW_FORMAT_FILE).rename(store / FORMAT_FILE)


def is_store(path: Path) -> bool:
    """Whether the directory holds a store (of whatever version)."""
    return (path / FORMAT_FILE).is_file()


def read_format(store: Path) -> StoreFormat:
    """What the file says; NotAStore, FormatTooNew or CorruptStore unless this difffs can read the
    store."""
    try:
        text = (store / FORMAT_FILE).read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotAStore(
            f"{store} is not a difffs store (it has no file {FORMAT_FILE!r});"
            " name one, or make one with `difffs mount` or `difffs import`"
        ) from None
    except PermissionError as error:
        raise EnvironmentProblem(f"{error.filename} may not be read; run as its owner") from None
    except OSError as error:
        raise explained(error, store / FORMAT_FILE, "read") from None
    lines = text.splitlines()
    if len(lines) < 2 or lines[0] != _FIRST_LINE or not lines[1].startswith("version "):
        raise CorruptStore(
            f"{store / FORMAT_FILE} does not begin with {_FIRST_LINE!r} and a version;"
            " restore it from a copy"
        )
    version = lines[1].removeprefix("version ")
    if not version.isdecimal():
        raise CorruptStore(f"{store / FORMAT_FILE} has no version number but {version!r}")
    if int(version) < 1:
        raise CorruptStore(f"{store / FORMAT_FILE} has no version number but {version!r}")
    if int(version) > FORMAT_VERSION:
        raise FormatTooNew(
            f"{store} has format {version}, this difffs reads up to {FORMAT_VERSION};"
            " use a newer difffs"
        )
    if int(version) == 1:
        return StoreFormat(1, b"")
    found = _ID_LINE.fullmatch(lines[2] if len(lines) > 2 else "")
    if found is None:
        raise CorruptStore(f"{store / FORMAT_FILE} has no id of the store; restore it from a copy")
    return StoreFormat(int(version), bytes.fromhex(found[1]))
