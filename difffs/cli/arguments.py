"""Types of arguments that several commands have."""

from pathlib import Path

from difffs.errors import UsageError


def filled(text: str) -> str:
    """Return what is not empty. ``UsageError``: as a path it would mean the current directory."""
    if not text:
        raise UsageError("an argument is empty; if it is a variable of the shell, set it")
    return text


def filled_path(text: str) -> Path:
    """Return a path. ``UsageError`` for an empty one."""
    return Path(filled(text))
