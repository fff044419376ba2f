"""``difffs import STORE IMAGE...``."""

import argparse
import contextlib
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from difffs import stats
from difffs.cli.arguments import filled, filled_path
from difffs.cli.names import printable, volume_path
from difffs.cli.opening import open_or_create
from difffs.cli.report import SCHEMA_VERSION, print_json, state_line
from difffs.engine import Engine
from difffs.errors import DifffsError, UsageError, VolumeExists
from difffs.image import STDIN, ImageReader
from difffs.mount.options import WORKERS_MAXIMUM
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.progress import Progress
from difffs.recipe import RECIPES
from difffs.size import format_size, parse_size
from difffs.store.failures import explained
from difffs.store.inode import Inode
from difffs.store.namespace import Namespace
from difffs.store.page_tables import ZERO

# The holes of a sparse image are pages of zeros like those that it holds as data: the figures must
# not depend on how the image was copied. Page tables of zeros take 1 MB a GiB, which is nothing
# beside an image of memory; a larger file is something else, and keeps its holes.
_LARGEST_DENSE_IMAGE = 1 << 40

_COMMIT_EVERY = 256
"""Changed index pages (some 200 MiB of image) at which a commit is made in between: what waits for
the disk stays small, and the end of a long import is no long wait."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] STORE IMAGE [NAME] | STORE IMAGE... | STORE IMAGE --as NAME"
    parser.add_argument(
        "store", metavar="STORE", type=filled_path, help="made if it does not exist"
    )
    parser.add_argument(
        "words",
        metavar="IMAGE",
        nargs="+",
        type=filled,
        help="file or device, - is stdin; each becomes a volume of its own name. The second of two"
        " words is the volume's NAME, unless there is such a file",
    )
    parser.add_argument("--as", metavar="NAME", dest="name", help="of the one image's volume")
    parser.add_argument(
        "--skip",
        metavar="BYTES",
        default="0",
        help="leave out so much of each image's start, as 4K",
    )
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"recipe of a new store: {', '.join(RECIPES)}"
    )
    parser.add_argument(
        "--change-recipe",
        action="store_true",
        help="use --recipe for the new pages of an existing store",
    )
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="encoding threads (1)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An image and the volume that it becomes; all paths begin with a slash."""

    image: str
    path: str


def run(arguments: argparse.Namespace) -> int:
    """Store the images; print a summary."""
    if arguments.change_recipe and arguments.recipe is None:
        raise UsageError("--change-recipe needs --recipe NAME: which one?")
    if not 1 <= arguments.workers <= WORKERS_MAXIMUM:
        raise UsageError(
            f"--workers {arguments.workers}: needs a number from 1 to {WORKERS_MAXIMUM}"
        )
    skip = parse_size(arguments.skip)
    wanted = _wanted(arguments.words, arguments.name)
    first = wanted[0].image
    with contextlib.ExitStack() as stack:
        # Whatever is wrong with an image is said before a store is made or opened. One alone is
        # opened once: what comes through a pipe comes once.
        alone = None
        if len(wanted) == 1:
            alone = ImageReader.open(first, skip=skip, ahead=arguments.workers > 1)
            stack.callback(alone.close)
        else:
            for each in wanted:
                _require_readable(each.image, skip)
        name = "" if len(wanted) > 1 else wanted[0].path[1:]
        store = stack.enter_context(
            open_or_create(
                arguments.store,
                arguments.recipe,
                "import",
                lambda mount: shlex.join(["cp", first, f"{mount}/{name}"]),
                change_recipe=arguments.change_recipe,
            )
        )
        store.hold_reserve()  # what a full disk then takes to put an unfinished volume away
        engine = stack.enter_context(Engine(store, arguments.workers))
        for each in wanted:
            _require_free(store.namespace, each.path)
        volumes: list[dict[str, Any]] = []
        for each in wanted:
            with _told_what_is_done(volumes):
                if alone is not None:
                    volumes.append(_import(engine, each, alone))
                else:
                    image = ImageReader.open(each.image, skip=skip, ahead=arguments.workers > 1)
                    with contextlib.closing(image):
                        volumes.append(_import(engine, each, image))
            if not arguments.json:
                print(_summary(volumes[-1]), flush=True)
        store.give_reserve_back()
        statistics = stats.collect(store)
    if arguments.json:
        print_json(_report(volumes, statistics))
    else:
        print(f"{arguments.store}: {state_line(statistics)}")
    return 0


# ---- what is wanted --------------------------------------------------------------------------


def _wanted(words: list[str], name: str | None) -> list[_Wanted]:
    """Return which image becomes which volume. UsageError when that is not clear."""
    images = list(words)
    if name is None and len(words) == 2 and words[1] != STDIN and not _is_file(words[1]):
        name = images.pop()
    if name is not None and len(images) > 1:
        raise UsageError(f"--as {name} is one volume's name, and these are {len(images)} images")
    wanted: dict[str, str] = {}
    for image in images:
        if name is None and image == STDIN:
            raise UsageError("an image from stdin has no name: import it alone, with --as NAME")
        try:
            path = volume_path(os.path.basename(image) if name is None else name)
        except UsageError as error:
            raise UsageError(f"{error}; give {image} another with --as NAME") from None
        if path in wanted:
            raise UsageError(
                f"{wanted[path]} and {image} would both be {path[1:]}: import one with --as NAME"
            )
        wanted[path] = image
    return [_Wanted(image, path) for path, image in wanted.items()]


def _is_file(word: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(word).st_mode)
    except (OSError, ValueError):
        return False


def _require_readable(image: str, skip: int) -> None:
    """Raise what opening the image would raise, where that is known without taking from it."""
    try:
        mode = os.stat(image).st_mode
    except OSError:
        mode = 0  # opening it says why
    if not stat.S_ISFIFO(mode):  # whose writer it would be the end of
        ImageReader.open(image, skip=0 if stat.S_ISCHR(mode) else skip).close()


def _require_free(names: Namespace, path: str) -> None:
    """Raise ``VolumeExists`` or ``UsageError`` when there cannot be a volume of that name."""
    if names.exists(path):
        raise VolumeExists(
            f"{path[1:]} is in the store already: choose another name (--as NAME) or remove it"
        )
    directory = os.path.dirname(path)
    while not names.exists(directory):
        directory = os.path.dirname(directory)
    if not names.lookup(directory).is_directory:
        raise UsageError(
            f"{path[1:]} cannot be made: {directory[1:]} is no directory; choose another name"
        )


# ---- doing it --------------------------------------------------------------------------------


@contextlib.contextmanager
def _told_what_is_done(volumes: list[dict[str, Any]]) -> Iterator[None]:
    """Have an error say which images before it are in the store."""
    try:
        yield
    except DifffsError as error:
        if not volumes:
            raise
        done = ", ".join(volume["volume"] for volume in volumes)
        raise type(error)(f"{error} (imported before it: {done})") from error


def _import(engine: Engine, wanted: _Wanted, image: ImageReader) -> dict[str, Any]:
    """Make the volume, or nothing; return what the report says of it.

    Until it is whole it is an orphan: whatever happens to this process, the next one that opens the
    store for writing removes it.
    """
    store, name = engine.store, wanted.path[1:]
    started = time.monotonic()
    with store.lock:
        inode = store.namespace.create_orphan(image.mode, os.getuid(), os.getgid())
    made: list[str] = []
    try:
        with Progress(f"import {printable(name)}", image.size or 0) as progress:
            size = _copy(engine, inode, image, progress)
        with store.lock:
            made = _make_directories(store.namespace, os.path.dirname(wanted.path))
            store.namespace.link(inode.number, wanted.path)
        engine.commit()
    except BaseException as error:
        _remove(engine, wanted.path, inode, made)
        if isinstance(error, OSError):
            raise explained(error, store.path) from error
        raise
    if image.grown:
        print(
            f"difffs: image {image.name} has grown while it was read: the {size:,} bytes that it"
            f" had are imported, {image.grown:,} are not",
            file=sys.stderr,
        )
    seconds = time.monotonic() - started
    return {
        "volume": name,
        "image": wanted.image,
        "size": size,
        "seconds": seconds,
        "pages_per_second": size / PAGE_SIZE / max(seconds, 1e-9),
    }


def _make_directories(names: Namespace, path: str) -> list[str]:
    """Make the directories that are missing; return them, outermost first."""
    made = []
    parts = path.strip("/").split("/") if path.strip("/") else []
    for depth in range(1, len(parts) + 1):
        directory = "/" + "/".join(parts[:depth])
        if not names.exists(directory):
            names.mkdir(directory, 0o755, os.getuid(), os.getgid())
            made.append(directory)
    return made


def _copy(engine: Engine, inode: Inode, image: ImageReader, progress: Progress) -> int:
    """Copy the image; return its size."""
    # A commit may come at any time, and a volume's pages lie within its size.
    _set_size(engine, inode, image.size or 0)
    keep_holes = (image.size or 0) > _LARGEST_DENSE_IMAGE
    end = 0
    for offset, data in image.batches():
        if not keep_holes:
            _fill_zeros(engine, inode, end, offset)
        tail = len(data) % PAGE_SIZE
        pages: memoryview | bytes = data
        if tail:
            # The volume's last page is kept whole; its size says where it really ends.
            pages = bytes(data) + bytes(PAGE_SIZE - tail)
        first, end = offset // PAGE_SIZE, offset + len(data)
        if end > MAXIMUM_VOLUME_SIZE:
            raise UsageError(f"the image is larger than a volume can be ({MAXIMUM_VOLUME_SIZE})")
        if end > inode.size:
            _set_size(engine, inode, end)
        engine.write(inode.number, range(first, first + len(pages) // PAGE_SIZE), pages)
        if engine.store.uncommitted > _COMMIT_EVERY:
            engine.commit()
        progress.update(end)
    size = image.size or 0
    if not keep_holes:
        _fill_zeros(engine, inode, end, size)
    progress.update(size)
    return size


def _set_size(engine: Engine, inode: Inode, size: int) -> None:
    with engine.store.lock:
        engine.store.namespace.set_size(inode, size)


def _fill_zeros(engine: Engine, inode: Inode, start: int, end: int) -> None:
    first, last = -(-start // PAGE_SIZE), -(-end // PAGE_SIZE)
    if last > first:
        engine.store.fill(inode.number, first, last - first, ZERO)


def _remove(engine: Engine, path: str, inode: Inode, directories: list[str]) -> None:
    """Put away what has been made of a volume, as far as the store still takes changes."""
    store = engine.store
    with contextlib.suppress(DifffsError, OSError), store.lock:
        if inode.nlink:
            store.namespace.unlink(path)
        for directory in reversed(directories):
            store.namespace.rmdir(directory)
        store.remove(inode.number)
    with contextlib.suppress(DifffsError):
        if not store.make_room():
            store.commit()


# ---- telling ---------------------------------------------------------------------------------


def _summary(volume: dict[str, Any]) -> str:
    size, seconds = volume["size"], volume["seconds"]
    rate = format_size(size / max(seconds, 1e-9))
    name = printable(volume["volume"])
    return f"imported {name}: {format_size(size)} in {seconds:.1f} s ({rate}/s)"


def _report(volumes: list[dict[str, Any]], statistics: dict[str, Any]) -> dict[str, Any]:
    size = sum(volume["size"] for volume in volumes)
    seconds = sum(volume["seconds"] for volume in volumes)
    return {
        "schema_version": SCHEMA_VERSION,
        **({"volume": volumes[0]["volume"]} if len(volumes) == 1 else {}),
        "volumes": volumes,
        "size": size,
        "seconds": seconds,
        "pages_per_second": size / PAGE_SIZE / max(seconds, 1e-9),
        "store": statistics,
    }
