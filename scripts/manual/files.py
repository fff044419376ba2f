"""Which files there are to be, and which of them are not as they should be."""

from __future__ import annotations

from pathlib import Path

from difffs.cli.main import COMMANDS
from manual.completion import completion
from manual.file_pages import configuration_page, store_page
from manual.helper_page import helper_page
from manual.pages import command_page, main_page

_PAGES = "docs/man"


def wanted() -> dict[str, str]:
    """Return each file's content by its path in the project."""
    return {
        f"{_PAGES}/difffs.1": main_page(),
        **{f"{_PAGES}/difffs-{name}.1": command_page(name) for name in COMMANDS},
        f"{_PAGES}/difffs.conf.5": configuration_page(),
        f"{_PAGES}/difffs-store.5": store_page(),
        f"{_PAGES}/mount.difffs.8": helper_page(),
        "completion/bash/difffs": completion("bash"),
        "completion/zsh/_difffs": completion("zsh"),
        "completion/fish/difffs.fish": completion("fish"),
    }


def stale(root: Path) -> dict[str, str | None]:
    """Return the files that differ, with the content that they should have; None: none at all."""
    should_be = wanted()
    found: dict[str, str | None] = {}
    for name, content in should_be.items():
        try:
            current = (root / name).read_text()
        except FileNotFoundError:
            current = None
        if current != content:
            found[name] = content
    for path in sorted((root / _PAGES).glob("*.[1-9]")):
        name = f"{_PAGES}/{path.name}"
        if name not in should_be:
            found[name] = None
    return found
