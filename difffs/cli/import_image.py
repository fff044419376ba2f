"""``difffs import STORE IMAGE [NAME]``."""

import argparse
import contextlib
import os
import stat
import sys
import time
from pathlib import Path

from difffs import stats
from difffs.cli.report import SCHEMA_VERSION, print_json, state_line
from difffs.engine import Engine
from difffs.errors import (
    NO_ROOM,
    DifffsError,
    EnvironmentProblem,
    StoreFull,
    UsageError,
    VolumeExists,
)
from difffs.image import ImageReader
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.progress import Progress
from difffs.recipe import RECIPES
from difffs.size import format_size
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.store.namespace import Namespace
from difffs.store.page_tables import ZERO

# The holes of a sparse image are pages of zeros like those that it holds as data: the figures must
# not depend on how the image was copied. Page tables of zeros take 1 MB a GiB, which is nothing
# beside an image of memory; a larger file is something else, and keeps its holes.
_LARGEST_DENSE_IMAGE = 1 << 40


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=Path, help="made if it does not exist")
    parser.add_argument("image", metavar="IMAGE", help="file or device; - is stdin")
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="of the volume; by default the image's"
    )
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"recipe of a new store: {', '.join(RECIPES)}"
    )
    parser.add_argument(
        "--change-recipe",
        action="store_true",
        help="use --recipe for the new pages of an existing store",
    )
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="encoding threads")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Store the image; print a summary."""
    name = arguments.name
    if arguments.change_recipe and arguments.recipe is None:
        raise UsageError("--change-recipe needs --recipe NAME: which one?")
    if name is None:
        if arguments.image == "-":
            raise UsageError("an image from stdin has no name: give NAME as well")
        name = os.path.basename(arguments.image)
    path = "/" + name.strip("/")
    if path == "/" or any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise UsageError(f"{name!r} cannot be a volume's name: give another NAME")
    image, image_size, mode = _open_image(arguments.image, ahead=arguments.workers > 1)
    with (
        contextlib.closing(image),
        Store.open_or_create(
            arguments.store, arguments.recipe, change_recipe=arguments.change_recipe
        ) as store,
        Engine(store, arguments.workers) as engine,
    ):
        started = time.monotonic()
        with Progress(f"import {path[1:]}", image_size) as progress:
            size = _import(engine, path, mode, image, image_size, progress)
        seconds = time.monotonic() - started
        statistics = stats.collect(store)
    if arguments.json:
        report = {
            "schema_version": SCHEMA_VERSION,
            "volume": path[1:],
            "size": size,
            "seconds": seconds,
            "pages_per_second": size / PAGE_SIZE / max(seconds, 1e-9),
            "store": statistics,
        }
        print_json(report)
    else:
        rate = format_size(size / max(seconds, 1e-9))
        print(f"imported {path[1:]}: {format_size(size)} in {seconds:.1f} s ({rate}/s)")
        print(f"{arguments.store}: {state_line(statistics)}")
    return 0


def _open_image(name: str, *, ahead: bool) -> tuple[ImageReader, int, int]:
    """Return the image, its size (0 for a pipe) and its permission bits."""
    try:
        file = os.dup(sys.stdin.fileno()) if name == "-" else os.open(name, os.O_RDONLY)
    except OSError as error:
        raise UsageError(
            f"image {name} cannot be opened: {error.strerror}; check the path"
        ) from None
    status = os.fstat(file)
    if stat.S_ISDIR(status.st_mode):
        os.close(file)
        raise UsageError(f"image {name} is a directory: name a file")
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    mode = stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else 0o600
    if stat.S_ISBLK(status.st_mode):
        size = os.lseek(file, 0, os.SEEK_END)
        os.lseek(file, 0, os.SEEK_SET)
    if size > MAXIMUM_VOLUME_SIZE:
        os.close(file)
        raise UsageError(f"image {name} is larger than a volume can be ({MAXIMUM_VOLUME_SIZE})")
    return ImageReader(file, size, ahead=ahead), size, mode


def _import(
    engine: Engine, path: str, mode: int, image: ImageReader, image_size: int, progress: Progress
) -> int:
    """Make the volume, or nothing: whatever goes wrong, the half-made volume is removed."""
    store = engine.store
    inode = _make_volume(store.namespace, path, mode)
    try:
        size = _copy(engine, inode, image, image_size, progress)
        engine.commit()
    except BaseException as error:
        _remove(engine, path, inode)
        if isinstance(error, OSError):
            raise _explained(error, path) from error
        raise
    return size


def _make_volume(names: Namespace, path: str, mode: int) -> Inode:
    if names.exists(path):
        raise VolumeExists(f"{path[1:]} is in the store already: choose another NAME or remove it")
    uid, gid = os.getuid(), os.getgid()
    try:
        parts = path[1:].split("/")
        for depth in range(1, len(parts)):
            directory = "/" + "/".join(parts[:depth])
            if not names.exists(directory):
                names.mkdir(directory, 0o755, uid, gid)
        return names.create(path, mode, uid, gid)
    except OSError as error:
        raise UsageError(f"{path[1:]} cannot be made: {error.strerror}; choose another") from None


def _copy(
    engine: Engine, inode: Inode, image: ImageReader, image_size: int, progress: Progress
) -> int:
    keep_holes = image_size > _LARGEST_DENSE_IMAGE
    end = 0
    for offset, data in image.batches():
        if not keep_holes:
            _fill_zeros(engine, inode, end, offset)
        tail = len(data) % PAGE_SIZE
        pages: memoryview | bytes = data
        if tail:
            # The volume's last page is kept whole; its size says where it really ends.
            pages = bytes(data) + bytes(PAGE_SIZE - tail)
        first = offset // PAGE_SIZE
        engine.write(inode.number, range(first, first + len(pages) // PAGE_SIZE), pages)
        end = offset + len(data)
        if end > MAXIMUM_VOLUME_SIZE:
            raise UsageError(f"the image is larger than a volume can be ({MAXIMUM_VOLUME_SIZE})")
        progress.update(end)
    size = max(end, image_size)
    if not keep_holes:
        _fill_zeros(engine, inode, end, size)
    with engine.store.lock:
        engine.store.namespace.set_size(inode, size)
    progress.update(size)
    return size


def _fill_zeros(engine: Engine, inode: Inode, start: int, end: int) -> None:
    first, last = -(-start // PAGE_SIZE), -(-end // PAGE_SIZE)
    if last > first:
        engine.store.fill(inode.number, first, last - first, ZERO)


def _remove(engine: Engine, path: str, inode: Inode) -> None:
    store = engine.store
    with contextlib.suppress(DifffsError, OSError), store.lock:
        store.namespace.unlink(path)
        store.remove(inode.number)
        while store.remove_some():
            pass
        store.commit()


def _explained(error: OSError, path: str) -> DifffsError:
    if error.errno in NO_ROOM:
        return StoreFull(f"no space left for {path[1:]}: free some where the store lives")
    return EnvironmentProblem(f"reading the image failed: {error.strerror}; nothing was imported")
