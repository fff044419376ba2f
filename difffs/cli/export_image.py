"""``difffs export STORE NAME IMAGE``."""

import argparse
import contextlib
import errno
import os
import shlex
import stat
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

from difffs._kernels import TABLE_ENTRIES
from difffs.cli.arguments import filled, filled_path
from difffs.cli.names import find_volume, printable
from difffs.cli.opening import open_to_read
from difffs.cli.report import SCHEMA_VERSION, print_json
from difffs.cli.whole_file import unwritable, whole_file
from difffs.errors import OutputProblem, UsageError
from difffs.page import PAGE_SIZE
from difffs.progress import Progress
from difffs.size import format_size
from difffs.standard_streams import ReaderGone, output_problem
from difffs.store import Store
from difffs.store.inode import Inode
from difffs.store.page_tables import HOLE, ZERO

_BATCH_PAGES = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", metavar="STORE", type=filled_path)
    parser.add_argument("name", metavar="NAME", help="of the volume")
    parser.add_argument(
        "image", metavar="IMAGE", type=filled, help="file or device to write; - is stdout"
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
        volume = find_volume(store, name)
        with Progress(f"export {printable(name)}", volume.size) as progress:
            if to_stdout:
                _write_stream(store, volume, sys.stdout.fileno(), "stdout", progress)
            else:
                _write_image(store, volume, arguments.image, progress)
        size = volume.size
    seconds = time.monotonic() - started
    output = sys.stderr if to_stdout else sys.stdout
    with contextlib.redirect_stdout(output):
        if arguments.json:
            print_json(
                {
                    "schema_version": SCHEMA_VERSION,
                    "volume": arguments.name,
                    "image": arguments.image,
                    "size": size,
                    "seconds": seconds,
                }
            )
        else:
            print(
                f"exported {printable(name)}: {format_size(size)} in {seconds:.1f} s "
                f"({format_size(size / max(seconds, 1e-9))}/s)"
            )
    return 0


def _data(store: Store, volume: Inode) -> Iterator[tuple[int, memoryview]]:
    """Iterate over (offset, bytes) of all that is not zeros, cut off at the volume's size."""
    buffer = bytearray(_BATCH_PAGES * PAGE_SIZE)
    end = -(-volume.size // PAGE_SIZE)
    for chunk in store.chunks_of(volume.number, 0, -(-end // TABLE_ENTRIES)):
        first = chunk * TABLE_ENTRIES
        ids = store.lookup(volume.number, first, max(0, min(TABLE_ENTRIES, end - first)))
        for start, count in _runs(ids):
            out = memoryview(buffer)[: count * PAGE_SIZE]
            store.read_pages(volume.number, first + start, count, out)
            offset = (first + start) * PAGE_SIZE
            yield offset, out[: volume.size - offset]


def _runs(ids: "array[int]") -> Iterator[tuple[int, int]]:
    """Iterate over (start, count) of pages that are neither holes nor zeros, in batches."""
    start = 0
    while start < len(ids):
        if ids[start] in (HOLE, ZERO):
            start += 1
            continue
        end = start + 1
        while (
            end < len(ids)
            and end - start < _BATCH_PAGES
            and ids[end]
            not in (
                HOLE,
                ZERO,
            )
        ):
            end += 1
        yield start, end - start
        start = end


@contextlib.contextmanager
def _written(where: str) -> Iterator[None]:
    """Turn what goes wrong with writing to `where` into errors for people."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise output_problem(where, error) from error


def _write_all(file: int, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _write_stream(store: Store, volume: Inode, file: int, where: str, progress: Progress) -> None:
    """Write front to back, zeros included; a device has it when this returns."""
    zeros = bytes(1 << 20)
    position = 0

    def pad(until: int) -> None:
        nonlocal position
        while position < until:
            count = min(len(zeros), until - position)
            with _written(where):
                _write_all(file, memoryview(zeros)[:count])
            position += count
            progress.update(position)

    _require_room(file, volume.size, where)
    for offset, data in _data(store, volume):
        pad(offset)
        with _written(where):
            _write_all(file, data)
        position += len(data)
        progress.update(position)
    pad(volume.size)
    with _written(where):
        if stat.S_ISBLK(os.fstat(file).st_mode):
            os.fsync(file)


def _require_room(file: int, size: int, where: str) -> None:
    """Say at the start, not in the middle, that a device is too small."""
    with _written(where):
        if not stat.S_ISBLK(os.fstat(file).st_mode):
            return
        position = os.lseek(file, 0, os.SEEK_CUR)
        room = os.lseek(file, 0, os.SEEK_END) - position
        os.lseek(file, position, os.SEEK_SET)
    if room < size:
        raise OutputProblem(
            f"{where} is too small: it has room for {room:,} of {size:,} bytes; take a larger one"
        )


def _write_image(store: Store, volume: Inode, image: str, progress: Progress) -> None:
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
            _write_device(store, volume, image, progress)
            return
    if store.path.resolve() in Path(image).resolve().parents:
        raise UsageError(f"{where} lies in the store; choose another path")
    with whole_file(image, where) as file:
        _write_sparse(store, volume, file, where, progress)


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


def _write_device(store: Store, volume: Inode, image: str, progress: Progress) -> None:
    """Write to a device, a named pipe, or a file without a name."""
    where = f"image {image}"
    try:
        file = os.open(image, os.O_WRONLY | os.O_TRUNC)
    except OSError as error:
        raise unwritable(where, error) from None
    try:
        _write_stream(store, volume, file, where, progress)
    finally:
        os.close(file)


def _write_sparse(store: Store, volume: Inode, file: int, where: str, progress: Progress) -> None:
    """Write a regular file, holes as holes."""
    with _written(where):
        os.ftruncate(file, volume.size)
    for offset, data in _data(store, volume):
        with _written(where):
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        progress.update(offset)
    with _written(where):
        try:
            os.fchmod(file, stat.S_IMODE(volume.mode))
            os.utime(file, ns=(volume.atime_ns, volume.mtime_ns))
        except OSError as error:
            # vfat knows only some modes; the image is whole without its own.
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
