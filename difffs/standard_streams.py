"""Descriptors 0, 1 and 2: always there, and honest about what cannot be written.

What is printed may be any file's name, so nothing is too strange to be encoded; a failure to write
results is one error of a known class, and a failure to write messages is none.
"""

import codecs
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from difffs.errors import NO_ROOM, OutputProblem

_ACCESS = (os.O_WRONLY, os.O_RDONLY, os.O_RDWR)
"""How a missing descriptor 0, 1 or 2 is opened: reading from the first, and writing to the second,
fails with EBADF, as it would if nothing were there; what goes to the third is lost."""


def ensure_standard_streams() -> None:
    """Open /dev/null in place of every closed standard descriptor.

    Without it, the next file that is opened becomes the standard stream: a store's payload file
    would be its daemon's stdin. To be called before any file is opened that stays open.
    """
    for descriptor, access in enumerate(_ACCESS):
        try:
            os.fstat(descriptor)
        except OSError:
            file = os.open(os.devnull, access)
            if file != descriptor:
                os.dup2(file, descriptor)
                os.close(file)
            os.set_inheritable(descriptor, True)
    # Python has none where the descriptor was closed.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


class ReaderGone(Exception):
    """Nobody reads stdout any more: there is nothing left to do, and nothing to say."""


def output_problem(where: str, error: OSError) -> OutputProblem:
    """Return the error of a write to `where` that failed."""
    remedy = "make room there, or write elsewhere" if error.errno in NO_ROOM else "write elsewhere"
    return OutputProblem(f"{where} cannot be written: {error.strerror}; {remedy}")


class _Results(io.FileIO):
    """Descriptor 1: the first failure is an OutputProblem or ReaderGone, and the last."""

    _failed = False

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        if self._failed:
            return len(data)  # what is still buffered, or printed on the way out
        try:
            while (count := super().write(data)) is None:  # O_NONBLOCK, somebody else's wish
                select.select([], [self], [])
            return count
        except BrokenPipeError:
            self._failed = True
            raise ReaderGone from None
        except OSError as error:
            self._failed = True
            raise output_problem("stdout", error) from None


class _Messages(io.FileIO):
    """Descriptor 2: what cannot be said is no reason to fail."""

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:  # type: ignore[override]
        with suppress(OSError):
            return super().write(data) or len(data)
        return len(data)


_ANY_NAME = "difffs-any-name"
"""The codecs' name of the error handler below."""


def _encode_any_name(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of a file's name as they were, and what the encoding lacks as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    end = error.start + 1
    if "\udc80" <= character <= "\udcff" and not error.encoding.startswith(("utf-16", "utf-32")):
        return bytes([ord(character) - 0xDC00]), end
    return codecs.backslashreplace_errors(
        UnicodeEncodeError(error.encoding, error.object, error.start, end, error.reason)
    )


def _protected(stream: TextIO, raw: io.FileIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    with suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=_ANY_NAME,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def protect_standard_streams() -> None:
    """Let stdout and stderr take every text, and stdout fail with OutputProblem or ReaderGone.

    stderr does not fail. Streams that somebody else has put in their place stay as they are.
    """
    codecs.register_error(_ANY_NAME, _encode_any_name)
    if sys.__stdout__ in (None, sys.stdout):
        sys.stdout = _protected(sys.stdout, _Results(1, "w", closefd=False))
    if sys.__stderr__ in (None, sys.stderr):
        sys.stderr = _protected(sys.stderr, _Messages(2, "w", closefd=False))


@contextmanager
def flushed_output() -> Iterator[None]:
    """Have all that a block prints written at its end, so that a failure is still the block's."""
    try:
        yield
    except SystemExit:  # as after --help
        sys.stdout.flush()
        raise
    except BaseException:
        with suppress(OutputProblem, ReaderGone):  # the block's own error is the one to tell
            sys.stdout.flush()
        raise
    sys.stdout.flush()
