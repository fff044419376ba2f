"""``difffs mount STORE MOUNTPOINT``."""

import argparse
from dataclasses import replace
from pathlib import Path

from difffs.cli.arguments import filled_path
from difffs.cli.configured import add_configured, configured
from difffs.errors import MountProblem, UsageError
from difffs.mount.options import known_options, parse_options
from difffs.recipe import RECIPES, recipe_named


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] STORE MOUNTPOINT | [options] --configured NAME"
    parser.add_argument(
        "store", metavar="STORE", nargs="?", type=filled_path, help="directory of the store"
    )
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", nargs="?", type=filled_path)
    add_configured(parser, "mount")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        help=f"{known_options()}; and mount(8)'s own, remount too",
    )
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"recipe of a new store: {', '.join(RECIPES)}"
    )
    parser.add_argument(
        "--change-recipe",
        action="store_true",
        help="use --recipe for the new pages of an existing store",
    )
    parser.add_argument(
        "--domains",
        action="store_true",
        help="in a new store, share pages only within a directory of its root; an existing store"
        " must have been made so",
    )
    parser.add_argument(
        "--foreground",
        "-f",
        action="store_true",
        help="stay in the foreground, log to stderr, unmount at Ctrl-C",
    )
    parser.add_argument("--fake", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Mount; return when the mount answers, in the foreground when it is unmounted."""
    entry = configured(arguments, "mount", ["store", "mountpoint"])
    store, mountpoint, texts = arguments.store, arguments.mountpoint, arguments.options
    if entry is not None:
        store, mountpoint = entry.store, entry.values["mountpoint"]
        texts = [*entry.mount_options, *texts]
    options = parse_options(texts)
    if arguments.recipe is not None:
        if options.recipe not in (None, arguments.recipe):
            raise UsageError(
                f"--recipe {arguments.recipe} contradicts -o recipe={options.recipe}: give one"
            )
        options = replace(options, recipe=arguments.recipe)
    if arguments.change_recipe:
        options = replace(options, change_recipe=True)
    if arguments.domains:
        options = replace(options, domains=True)
    if options.recipe is not None:
        recipe_named(options.recipe)
    elif options.change_recipe:
        raise UsageError("--change-recipe needs --recipe NAME: which one?")
    if arguments.fake:
        return 0
    if options.remount:
        from difffs.mount.remount import remount

        recipe = [] if options.recipe is None else [f"recipe={options.recipe}"]
        domains = ["domains"] if options.domains else []
        remount(store, mountpoint, [*texts, *recipe, *domains])
        return 0
    from difffs.mount import daemon

    if entry is not None:
        _make_mountpoint(mountpoint)
    if arguments.foreground:
        daemon.mount_in_foreground(store, mountpoint, options)
    else:
        daemon.mount_in_background(store, mountpoint, options)
    return 0


def _make_mountpoint(mountpoint: Path) -> None:
    """Make the directory, as systemd does for its mounts: below /run there is none after a boot."""
    try:
        mountpoint.parent.mkdir(parents=True, exist_ok=True)
        mountpoint.mkdir()
    except FileExistsError:
        pass  # if that is no directory, or a mount whose daemon is dead, mounting tells
    except OSError as error:
        raise MountProblem(
            f"{mountpoint} cannot be made: {error.strerror}; choose another mountpoint"
        ) from None
