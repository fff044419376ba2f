"""A tool that a stream goes through: fed and read by one thread, ended with who uses it."""

import os
import selectors
import subprocess
from collections.abc import Generator, Iterable, Iterator

_READ = 256 << 10


class ToolFailed(Exception):
    """A tool ended with an error; the text is what it said."""


_ENVIRONMENT_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


def environment() -> dict[str, str]:
    """The environment without what would change a compressor's output (GZIP, XZ_OPT,
    ZSTD_CLEVEL, LZOP, ...)."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def through(
    command: list[str], pieces: Iterable[memoryview | bytes]
) -> Generator[bytes, None, None]:
    """What a tool makes of a stream, in pieces of 256 KiB at most. ``ToolFailed`` when it ends with
    an error. This thread feeds and reads; the tool ends with the iterator."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment(),
    )
    try:
        said = yield from _exchange(process, (piece for piece in pieces if piece))
        if process.wait():
            raise ToolFailed(said or f"exit code {process.returncode}")
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()


def _exchange(
    process: "subprocess.Popen[bytes]", pieces: Iterator[memoryview | bytes]
) -> Generator[bytes, None, str]:
    """Feeds and reads until the tool has closed its output; returns what it said on stderr."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    said = b""
    pending: memoryview = memoryview(b"")
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        open_outputs = 2
        while open_outputs:
            for key, _events in selector.select():
                if key.fileobj is process.stdin:
                    try:
                        if not pending:
                            pending = memoryview(next(pieces, b""))
                        if pending:
                            pending = pending[os.write(key.fd, pending) :]
                            continue
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        pass
                    selector.unregister(process.stdin)
                    process.stdin.close()
                    continue
                data = os.read(key.fd, _READ)
                if not data:
                    selector.unregister(key.fileobj)
                    open_outputs -= 1
                elif key.fileobj is process.stdout:
                    yield data
                else:
                    said = (said + data)[:1000]
    return said.decode(errors="replace").strip()
