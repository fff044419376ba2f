"""``--configured NAME``: what a command does is in the configuration."""

import argparse

from difffs.cli.arguments import filled, filled_path
from difffs.configuration.files import Files, configuration_files, read
from difffs.configuration.keys import Entry, named
from difffs.errors import UsageError


def add_configured(parser: argparse.ArgumentParser, kind: str) -> None:
    """Declare the arguments of a command that a section of a kind can speak for."""
    parser.add_argument(
        "--configured",
        metavar="NAME",
        type=filled,
        help=f"as [{kind} NAME] of the configuration says, instead of arguments",
    )
    add_config(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare where the configuration is."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=filled_path,
        help="read this file only, instead of /etc/difffs.conf and what belongs to it",
    )


def configuration(arguments: argparse.Namespace) -> Files:
    """Return what is configured. ``ConfigurationProblem``."""
    return read(configuration_files() if arguments.config is None else [arguments.config])


def configured(arguments: argparse.Namespace, kind: str, positional: list[str]) -> Entry | None:
    """Return the section that speaks for the ``positional`` arguments; None when those do.

    ``UsageError`` when it is both or neither.
    """
    given = [name for name in positional if getattr(arguments, name) is not None]
    wanted = " and ".join(name.upper().replace("_OR_", "-or-") for name in positional)
    if arguments.configured is None:
        if given != positional:
            raise UsageError(f"{arguments.command} needs {wanted}, or --configured NAME")
        if arguments.config is not None:
            raise UsageError("--config goes with --configured NAME: which one?")
        return None
    if given:
        raise UsageError(f"--configured {arguments.configured} takes the place of {wanted}")
    return named(configuration(arguments), kind, arguments.configured)
