"""Completion of bash, zsh and fish, by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from difffs.cli.columns import COLUMNS
from difffs.cli.main import build_parser
from difffs.images.formats import FORMAT_NAMES
from difffs.recipe import RECIPES

_FOLDERS = {"STORE", "MOUNTPOINT", "STORE-or-MOUNTPOINT", "DIR"}
_FILES = {"IMAGE", "FILE"}
_WORDS = {
    "--recipe": list(RECIPES),
    "--format": ["raw", *FORMAT_NAMES],
    "--output": ["help", *(column.name.lower() for column in COLUMNS)],
}


def completion(shell: str) -> str:
    """Return the script of that shell."""
    parser = build_parser(None, every=True)
    for action in _actions(parser):
        if action.metavar in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        for option in action.option_strings:
            if option in _WORDS:
                action.choices = _WORDS[option]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action
