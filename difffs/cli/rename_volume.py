"""``difffs mv STORE OLD NEW``."""

import argparse
import errno
import shlex

from difffs.cli.arguments import filled, filled_path
from difffs.cli.names import basename, find, volume_path
from difffs.cli.opening import open_to_change
from difffs.errors import UsageError, VolumeExists
from difffs.store.namespace import Namespace


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument("old", metavar="OLD", help="name of a volume, link or directory")
    parser.add_argument(
        "new", metavar="NEW", type=filled, help="its new name, or a directory to move it into"
    )
    parser.add_argument("--force", "-f", action="store_true", help="replace the volume NEW")


def run(arguments: argparse.Namespace) -> int:
    """Rename, or say why not."""
    old, new = arguments.old, arguments.new
    with open_to_change(
        arguments.store,
        "rename volumes",
        lambda mount: shlex.join(["mv", f"{mount}/{old}", f"{mount}/{new}"]),
    ) as store:
        names = store.namespace
        moved = find(store, old)
        target = _target(names, old, new)
        if names.exists(target):
            existing = names.lookup(target)
            if existing is moved:
                raise UsageError(f"{old} and {target[1:]} are the same: choose another name")
            if not existing.is_directory and not arguments.force:
                raise VolumeExists(
                    f"{target[1:]} is in the store already: choose another name, or replace it"
                    " with --force"
                )
        try:
            replaced = names.rename(names.path(moved.number), target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise UsageError(
                    f"{old} and {target[1:]} are of different domains, which share nothing: export"
                    f" {old} and import it as {target[1:]}"
                ) from None
            raise UsageError(
                f"{old} cannot become {target[1:]}: {error.strerror}; choose another name"
            ) from None
        if replaced is not None and replaced.is_file:
            store.remove(replaced.number)
    return 0


def _target(names: Namespace, old: str, new: str) -> str:
    """Return the path that OLD gets: NEW, or in the directory NEW."""
    path = "/" if not new.strip("/") else volume_path(new)
    if names.exists(path) and names.lookup(path).is_directory:
        return f"{path.rstrip('/')}/{basename(old)}"
    if new.endswith("/"):
        raise UsageError(f"the store holds no directory {new}: choose another name")
    return path
