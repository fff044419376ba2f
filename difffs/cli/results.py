"""Where results will go: looked at before hours of work, not after them."""

import os
from pathlib import Path

from difffs.errors import UsageError


def require_writable_file(path: str) -> None:
    """Raise ``UsageError`` when it can be seen that no file can be written there."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise UsageError(f"{path} is a directory: name a file in it")
    if not os.path.isdir(folder):
        raise UsageError(f"{path} cannot be written: {folder} is no directory; choose another path")
    _require_access(path, path if os.path.exists(path) else folder)


def require_writable_folder(path: Path) -> None:
    """Raise ``UsageError`` when it can be seen that no files can be written into the folder, which
    need not be there yet."""
    there = next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        raise UsageError(f"{path} cannot be written: {there} is no directory; choose another path")
    _require_access(str(path), str(there))


def _require_access(path: str, there: str) -> None:
    if not os.access(there, os.W_OK):
        raise UsageError(f"{path} cannot be written: {there} is read-only; choose another path")
