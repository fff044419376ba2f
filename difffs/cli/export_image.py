"""``difffs export STORE NAME IMAGE``."""

import argparse
import contextlib
import os
import shlex
import stat
import sys
import time
from pathlib import Path

from difffs.cli.arguments import filled, filled_path
from difffs.cli.export_content import Form, Wanted, content_of
from difffs.cli.export_target import write_file, write_stream
from difffs.cli.names import find_file
from difffs.cli.opening import open_to_read
from difffs.cli.report import SCHEMA_VERSION, print_json, printable
from difffs.cli.whole_file import unwritable, whole_file
from difffs.errors import UsageError
from difffs.progress import Progress
from difffs.size import format_size
from difffs.store import Store

_BATCH_PAGES = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument("name", metavar="NAME", help="of the volume")
    parser.add_argument(
        "image", metavar="IMAGE", type=filled, help="file or device to write; - is stdout"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--raw", action="store_true", help="of an image in another format: its guest's memory"
    )
    form.add_argument(
        "--block", metavar="BLOCK", type=filled, help="likewise, one block of memory by its name"
    )
    form.add_argument(
        "--unpacked", action="store_true", help="a compressed image without its compression"
    )
    form.add_argument(
        "--recompress",
        action="store_true",
        help="a compressed image compressed again, even where the bytes come out otherwise",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout (stderr with IMAGE -)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the image; print a summary."""
    started = time.monotonic()
    name = arguments.name.strip("/")
    to_stdout = _is_stdout(arguments.image)
    with open_to_read(
        arguments.store, "export", lambda mount: "copy " + shlex.quote(f"{mount}/{name}")
    ) as store:
        wanted = content_of(
            store,
            find_file(store, name),
            raw=arguments.raw,
            block=arguments.block,
            packing=_packing(arguments),
        )
        with Progress(f"export {printable(name)}", wanted.work) as progress:
            if to_stdout:
                form, size = write_stream(wanted, sys.stdout.fileno(), "stdout", progress)
            else:
                form, size = _write_image(store, wanted, arguments.image, progress)
    seconds = time.monotonic() - started
    if form is Form.UNPACKED and not arguments.unpacked:
        print(
            f"difffs: no program here compresses {printable(name)} to the bytes that it had:"
            f" {arguments.image} is its unpacked form, which is read as well; --recompress"
            " compresses it",
            file=sys.stderr,
        )
    output = sys.stderr if to_stdout else sys.stdout
    with contextlib.redirect_stdout(output):
        if arguments.json:
            print_json(
                {
                    "schema_version": SCHEMA_VERSION,
                    "volume": arguments.name,
                    "image": arguments.image,
                    "size": size,
                    "form": form,
                    "seconds": seconds,
                }
            )
        else:
            print(
                f"exported {printable(name)}: {format_size(size)} in {seconds:.1f} s "
                f"({format_size(size / max(seconds, 1e-9))}/s)"
            )
    return 0


def _packing(arguments: argparse.Namespace) -> Form | None:
    if arguments.unpacked:
        return Form.UNPACKED
    return Form.RECOMPRESSED if arguments.recompress else None


def _write_image(store: Store, wanted: Wanted, image: str, progress: Progress) -> tuple[Form, int]:
    """Write a sparse file that appears under its name only when it is whole."""
    where = f"image {image}"
    try:
        status = os.stat(image)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}; choose another path") from None
    else:
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{where} is a directory: name a file in it")
        if not stat.S_ISREG(status.st_mode) or not _has_name(image, status):
            return _write_device(wanted, image, progress)
    if store.path.resolve() in Path(image).resolve().parents:
        raise UsageError(f"{where} lies in the store; choose another path")
    with whole_file(image, where) as file:
        return write_file(wanted, file, where, progress)


def _has_name(image: str, status: os.stat_result) -> bool:
    """Whether the file can be replaced: through /dev/fd, also a removed one can be reached."""
    try:
        return os.path.samestat(status, os.stat(os.path.realpath(image)))
    except OSError:
        return False


def _is_stdout(image: str) -> bool:
    """Whether an image is what stdout is, so that nothing else may be printed there."""
    if image == "-":
        return True
    try:
        status, stdout = os.stat(image), os.fstat(1)
    except OSError:
        return False
    return os.path.samestat(status, stdout) and not stat.S_ISCHR(status.st_mode)


def _write_device(wanted: Wanted, image: str, progress: Progress) -> tuple[Form, int]:
    """Write to a device, a named pipe, or a file without a name."""
    where = f"image {image}"
    try:
        file = os.open(image, os.O_WRONLY | os.O_TRUNC)
    except OSError as error:
        raise unwritable(where, error) from None
    try:
        return write_stream(wanted, file, where, progress)
    finally:
        os.close(file)
