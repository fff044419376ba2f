"""``difffs rm STORE NAME...``."""

import argparse
import shlex

from difffs.cli.arguments import filled_path
from difffs.cli.names import find
from difffs.cli.opening import open_to_change
from difffs.errors import UsageError
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.store.namespace import Namespace


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument("names", metavar="NAME", nargs="+", help="of a volume, link or directory")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="directories too, with all that they hold"
    )


def run(arguments: argparse.Namespace) -> int:
    """Remove all of them, or none when something is wrong with one."""
    command = "rm -r" if arguments.recursive else "rm"
    with open_to_change(
        arguments.store,
        "remove volumes",
        lambda mount: f"{command} {shlex.join(f'{mount}/{name}' for name in arguments.names)}",
    ) as store:
        doomed: dict[int, Inode] = {}
        for name in arguments.names:
            inode = find(store, name)
            if inode.is_directory and not arguments.recursive:
                raise UsageError(f"{name} is a directory: difffs rm -r removes all that it holds")
            _collect(store.namespace, inode, doomed)
        for inode in doomed.values():
            _remove(store, inode)
    return 0


def _collect(names: Namespace, inode: Inode, doomed: dict[int, Inode]) -> None:
    """Add the inode, behind all that it holds."""
    pending = [(inode, False)]
    while pending:
        inode, entered = pending.pop()
        if inode.is_directory and not entered:
            pending.append((inode, True))
            pending += [(child, False) for child in names.children(inode.number)]
        else:
            doomed.setdefault(inode.number, inode)


def _remove(store: Store, inode: Inode) -> None:
    path = store.namespace.path(inode.number)
    if inode.is_directory:
        store.namespace.rmdir(path)
        return
    store.namespace.unlink(path)
    if inode.is_file:
        store.remove(inode.number)
