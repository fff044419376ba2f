"""Where an export writes to: a regular file, sparse, or a device or pipe, front to back."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

import xxhash

from difffs.cli.export_content import Content, Form, Wanted
from difffs.errors import EnvironmentProblem, OutputProblem
from difffs.progress import Progress
from difffs.standard_streams import ReaderGone, output_problem

_ZEROS = bytes(1 << 20)


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


def write_stream(wanted: Wanted, file: int, where: str, progress: Progress) -> tuple[Form, int]:
    """Write front to back, zeros included; a device has it when this returns.

    Return what was written, and how many bytes. Compressed contents are made twice: what has gone
    into a pipe cannot be taken back.
    """
    content = next(
        each for each in wanted.contents if each.digest is None or _comes_out(each, progress)
    )
    if content.size is not None:
        _require_room(file, content.size, where)
    position = 0

    def pad(until: int) -> None:
        nonlocal position
        while position < until:
            count = min(len(_ZEROS), until - position)
            with _written(where):
                _write_all(file, memoryview(_ZEROS)[:count])
            position += count
            progress.update(position)

    for offset, data in content.pieces():
        pad(offset)
        with _written(where):
            _write_all(file, data)
        position += len(data)
        progress.update(position)
    pad(content.size or 0)
    with _written(where):
        if stat.S_ISBLK(os.fstat(file).st_mode):
            os.fsync(file)
    return content.form, position


def _comes_out(content: Content, progress: Progress) -> bool:
    """Whether compressing gives the bytes that it should."""
    digest = xxhash.xxh3_128()
    length = 0
    try:
        for _offset, data in content.pieces():
            digest.update(data)
            length += len(data)
            progress.update(length)
    except EnvironmentProblem:
        return False  # what compresses does not do it: there is another way
    return digest.hexdigest() == content.digest


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


def write_file(wanted: Wanted, file: int, where: str, progress: Progress) -> tuple[Form, int]:
    """Write an empty regular file, holes as holes; return what was written, and how many bytes."""
    for content in wanted.contents:
        digest = xxhash.xxh3_128()
        packed = content.digest is not None
        observe: Callable[[memoryview], object] = digest.update if packed else len
        try:
            size = _write_sparse(content, file, where, progress, observe)
        except EnvironmentProblem:
            if not packed:
                raise
            size = -1  # what compresses does not do it: there is another way
        if not packed or (size >= 0 and digest.hexdigest() == content.digest):
            break
        with _written(where):
            os.ftruncate(file, 0)
    with _written(where):
        try:
            os.fchmod(file, stat.S_IMODE(wanted.inode.mode))
            os.utime(file, ns=(wanted.inode.atime_ns, wanted.inode.mtime_ns))
        except OSError as error:
            # vfat knows only some modes; the image is whole without its own.
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
                raise
    return content.form, size


def _write_sparse(
    content: Content,
    file: int,
    where: str,
    progress: Progress,
    observe: Callable[[memoryview], object],
) -> int:
    """Write the content's pieces where they lie; return the size."""
    size = content.size
    if content.digest is None and size is not None:
        with _written(where):
            os.ftruncate(file, size)
    end = 0
    for offset, data in content.pieces():
        observe(data)
        end = offset + len(data)
        with _written(where):
            while data:
                written = os.pwrite(file, data, offset)
                data, offset = data[written:], offset + written
        progress.update(offset)
    return end if content.digest is not None or size is None else size
