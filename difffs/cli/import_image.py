"""``difffs import STORE IMAGE...``."""

import argparse
import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from typing import Any

from difffs import stats
from difffs.cli.arguments import filled, filled_path
from difffs.cli.importing import (
    FormatChoice,
    Wanted,
    import_image,
    memory_path,
    require_free,
)
from difffs.cli.names import volume_path
from difffs.cli.opening import open_or_create
from difffs.cli.report import SCHEMA_VERSION, print_json, printable, state_line
from difffs.engine import Engine
from difffs.errors import DifffsError, UsageError
from difffs.image import STDIN, ImageReader
from difffs.images.format import Format
from difffs.images.formats import FORMAT_NAMES
from difffs.mount.options import WORKERS_MAXIMUM
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.size import format_size, parse_size


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
        help="file or device, - is stdin; each becomes a volume of its own name, and one in a known"
        " format NAME.ram too, its guest's memory. The second of two words is the volume's NAME,"
        " unless there is such a file",
    )
    parser.add_argument("--as", metavar="NAME", dest="name", help="of the one image's volume")
    parser.add_argument(
        "--skip",
        metavar="BYTES",
        default="0",
        help="leave out so much of each image's start, as 4K",
    )
    parser.add_argument(
        "--as-is",
        action="store_true",
        help="store the bytes as they are, whatever format they are in",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="what the images are, instead of what their contents say: "
        + ", ".join(["raw", *FORMAT_NAMES]),
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
        help="in a new store, share pages only within a directory of its root, as in a/vm1; an"
        " existing store must have been made so",
    )
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="encoding threads (1)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Store the images; print a summary."""
    if arguments.change_recipe and arguments.recipe is None:
        raise UsageError("--change-recipe needs --recipe NAME: which one?")
    if not 1 <= arguments.workers <= WORKERS_MAXIMUM:
        raise UsageError(
            f"--workers {arguments.workers}: needs a number from 1 to {WORKERS_MAXIMUM}"
        )
    skip = parse_size(arguments.skip)
    choice = FormatChoice.of(arguments.format, as_is=arguments.as_is)
    wanted = _wanted(arguments.words, arguments.name)
    first = wanted[0].image
    with contextlib.ExitStack() as stack:
        # Whatever is wrong with an image is said before a store is made or opened. One alone is
        # opened once: what comes through a pipe comes once.
        alone, form = None, None
        forms: dict[str, Format | None] = {}
        if len(wanted) == 1:
            alone = ImageReader.open(first, skip=skip, ahead=arguments.workers > 1)
            stack.callback(alone.close)
            form = choice.form(alone)
            forms[wanted[0].path] = form
        else:
            forms = {each.path: _form_of(each.image, skip, choice) for each in wanted}
            _require_different(wanted, forms)
        name = "" if len(wanted) > 1 else wanted[0].path[1:]
        store = stack.enter_context(
            open_or_create(
                arguments.store,
                arguments.recipe,
                "import",
                lambda mount: shlex.join(["cp", first, f"{mount}/{name}"]),
                change_recipe=arguments.change_recipe,
                domains=arguments.domains,
            )
        )
        store.hold_reserve()  # what a full disk then takes to put an unfinished volume away
        engine = stack.enter_context(Engine(store, arguments.workers))
        for each in wanted:
            require_free(store.namespace, each.path, form=forms.get(each.path))
        volumes: list[dict[str, Any]] = []
        for each in wanted:
            with _told_what_is_done(volumes):
                if alone is not None:
                    volumes.append(import_image(engine, each, alone, form, guessed=choice.detected))
                else:
                    image = ImageReader.open(each.image, skip=skip, ahead=arguments.workers > 1)
                    with contextlib.closing(image):
                        form = choice.form(image)
                        volumes.append(
                            import_image(engine, each, image, form, guessed=choice.detected)
                        )
            _tell_notes(volumes[-1])
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


def _wanted(words: list[str], name: str | None) -> list[Wanted]:
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
            if wanted[path] == image:
                raise UsageError(f"{image} is given twice: give it once, or another name with --as")
            raise UsageError(
                f"{wanted[path]} and {image} would both be {path[1:]}: import one with --as NAME"
            )
        wanted[path] = image
    return [Wanted(image, path) for path, image in wanted.items()]


def _is_file(word: str) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(word).st_mode)
    except (OSError, ValueError):
        return False


def _form_of(image: str, skip: int, choice: FormatChoice) -> Format | None:
    """The image's format, where it is known without taking from it. Raises what opening it would
    raise, likewise."""
    try:
        mode = os.stat(image).st_mode
    except OSError:
        mode = 0  # opening it says why
    if not stat.S_ISFIFO(mode):  # whose writer it would be the end of
        with contextlib.closing(
            ImageReader.open(image, skip=0 if stat.S_ISCHR(mode) else skip)
        ) as opened:
            return choice.form(opened) if stat.S_ISREG(mode) or stat.S_ISBLK(mode) else None
    return None


def _require_different(wanted: list[Wanted], forms: dict[str, Format | None]) -> None:
    """``UsageError`` when two images need one name, be it for a memory."""
    taken = {each.path: each.image for each in wanted}
    for each in wanted:
        if forms[each.path] is not None and memory_path(each.path) in taken:
            other = taken[memory_path(each.path)]
            raise UsageError(
                f"{other} and the memory of {each.image} would both be"
                f" {memory_path(each.path)[1:]}: import one with --as NAME"
            )


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


# ---- telling ---------------------------------------------------------------------------------


def _summary(volume: dict[str, Any]) -> str:
    size, seconds = volume["size"], volume["seconds"]
    rate = format_size(size / max(seconds, 1e-9))
    name = printable(volume["volume"])
    memory = volume["memory"]
    text = f"imported {name}: {format_size(size)} in {seconds:.1f} s ({rate}/s)"
    if memory is None:
        return text
    packed = f", {volume['packed']['compression']} unpacked" if volume["packed"] else ""
    return (
        f"{text}; {volume['title']}{packed}, with {format_size(memory['size'])} of memory in"
        f" {printable(memory['volume'])}"
    )


def _tell_notes(volume: dict[str, Any]) -> None:
    for note in volume["notes"]:
        print(f"difffs: {printable(volume['volume'])}: {note}", file=sys.stderr)


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
