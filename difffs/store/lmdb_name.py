"""A name that LMDB's binding takes, for a directory of any name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lmdb_name(directory: Path, *, create: bool = False) -> Iterator[str]:
    """Yields the name by which LMDB is to open a directory, or to copy to it.

    py-lmdb 2 and 3 encode and decode paths strictly as UTF-8. A directory of another name is
    opened here and goes by its descriptor; with `create` it is made, as LMDB would.
    """
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        if create:
            directory.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield str(directory)
