"""Descriptors 0, 1 and 2: always there, and honest about what cannot be written."""

import os
import sys

_ACCESS = (os.O_WRONLY, os.O_RDONLY, os.O_RDWR)
"""How a missing descriptor 0, 1 or 2 is opened: reading from the first, and writing to the second,
fails with EBADF, as it would if nothing were there; what goes to the third is lost."""


def ensure_standard_streams() -> None:
    """Open /dev/null in place of every closed standard descriptor.

    Without it, the next file that is opened becomes the standard stream: a store's payload file
    would be its daemon's stdin. To be called before any file is opened that stays open.
    """
    for descriptor, access in enumerate(_ACCESS):
        try:
            os.fstat(descriptor)
        except OSError:
            file = os.open(os.devnull, access)
            if file != descriptor:
                os.dup2(file, descriptor)
                os.close(file)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
