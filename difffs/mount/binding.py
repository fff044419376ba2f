"""The way to libfuse3: mfusepy, with what it leaves out.

Importing this module loads libfuse3; when that is impossible, ``EnvironmentProblem`` says what
to install. What is added to mfusepy 3.1:

* only libfuse3 is accepted (mfusepy prefers libfuse2 where both are installed);
* ``lseek`` (SEEK_DATA, SEEK_HOLE), the flags of ``rename``, UTIME_NOW and UTIME_OMIT;
* ``ioctl`` whose reply is bytes;
* threads of our own that answer requests for the bytes of files (difffs/mount/answering.py), and an
  answer without an error to times of a removed file (difffs/mount/_answering.pyx);
* ``truncate``, ``chmod``, ``chown`` and ``utimens`` get the file handle when the kernel sends one;
* every exception becomes an error number by one rule, :func:`failure_number`.
"""

import contextlib
import ctypes
import ctypes.util
import errno
import logging
import os
from collections.abc import Callable, Collection, Iterator
from types import ModuleType
from typing import Any, Protocol

from difffs._kernels import VolumePages
from difffs.errors import EnvironmentProblem, MountProblem
from difffs.mount import _answering
from difffs.mount.answering import Answering
from difffs.store.inode import time_now

log = logging.getLogger("difffs.mount")

# Bytes from which on a view of libfuse's buffer is cheaper than a copy.
_LARGE = 32 << 10
_PYBUF_READ = 0x100
_PYBUF_WRITE = 0x200

_memory_view = ctypes.pythonapi.PyMemoryView_FromMemory
_memory_view.restype = ctypes.py_object
_memory_view.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

_REMEDY = "install libfuse3 (Debian: apt install fuse3)"
# libfuse 3.17 changed its soname; older distributions have .so.3.
_SONAMES = ("libfuse3.so.4", "libfuse3.so.3")


def _libraries() -> Iterator[str]:
    chosen = os.environ.get("FUSE_LIBRARY_PATH")
    if chosen:
        yield chosen
        return
    yield from _SONAMES
    found = ctypes.util.find_library("fuse3")
    if found:
        yield found


def _load() -> ModuleType:
    for name in _libraries():
        with contextlib.suppress(OSError, AttributeError):  # absent, or something else
            library = ctypes.CDLL(name)
            version = int(library.fuse_version())
            # 3.14 says 314; libfuse2 says 29.
            major = version // 100 if version >= 100 else version // 10
            if major != 3:
                raise EnvironmentProblem(f"{name} is libfuse {major}, difffs needs 3: {_REMEDY}")
            os.environ["FUSE_LIBRARY_PATH"] = name
            break
    else:
        raise EnvironmentProblem(f"libfuse3 cannot be loaded: {_REMEDY}")
    try:
        import mfusepy
    except ImportError:
        raise EnvironmentProblem(
            "the Python package mfusepy is missing: pip install mfusepy"
        ) from None
    except (OSError, AttributeError) as error:
        raise EnvironmentProblem(f"mfusepy cannot use libfuse3 ({error}): {_REMEDY}") from error
    module: ModuleType = mfusepy
    if module.fuse_version_major != 3:
        raise EnvironmentProblem(f"mfusepy loaded libfuse {module.fuse_version_major}: {_REMEDY}")
    return module


_mfusepy: Any = _load()

VERSION: tuple[int, int] = (_mfusepy.fuse_version_major, _mfusepy.fuse_version_minor)
"""The version of libfuse in use."""


def package_version() -> str:
    """Return all of libfuse's version, as ``3.14.0``."""
    function = _mfusepy._libfuse.fuse_pkgversion
    function.argtypes, function.restype = (), ctypes.c_char_p
    version: str = function().decode()
    return version


class Operations(Protocol):
    """What :func:`serve` needs to know about the operations beyond their names."""

    pages: VolumePages
    """What answers for open volumes without Python."""

    def read(self, path: str | None, out: memoryview, offset: int, fh: int) -> int:
        """Fill ``out`` from ``offset`` on; return how many bytes of it count."""

    def write(self, path: str | None, data: bytes | memoryview, offset: int, fh: int) -> int:
        """Write ``data`` at ``offset``; return its length."""

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        """Return when what was written to the file before is committed."""

    def synchronise(self, handles: Collection[int]) -> None:
        """The same for several; where one is 0, for all files."""

    def error_number(self, error: BaseException, operation: str) -> int:
        """Return the positive error number for an exception, logging what deserves it."""


def request_context() -> tuple[int, int, int]:
    """Return (uid, gid, process id) behind the request that is being answered."""
    uid, gid, process = _mfusepy.fuse_get_context()
    return uid, gid, process


def _text(path: bytes | None) -> str | None:
    return None if path is None else path.decode("utf-8", "surrogateescape")


def _handle(info: Any) -> int | None:
    return int(info.contents.fh) if info else None


def _nanoseconds(given: Any) -> int | None:
    """Return a timespec's nanoseconds since 1970, None for "leave as it is"."""
    if given.tv_nsec == UTIME_OMIT:
        return None
    if given.tv_nsec == UTIME_NOW:
        return time_now()
    return int(given.tv_sec) * 1_000_000_000 + int(given.tv_nsec)


def _failure(operations: Operations, operation: str, error: BaseException) -> int:
    """The error number that the kernel gets. Nothing may escape into libfuse's C frames. Signals
    are blocked in this thread, so that a BaseException is a bug like any other."""
    try:
        return operations.error_number(error, operation)
    except BaseException:
        return errno.EIO


class _CustomIO(ctypes.Structure):
    """libfuse's ``struct fuse_custom_io``; what is not given is done as ever."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in ("writev", "read", "splice_receive", "splice_send", "clone_fd")
    )


def _take_over(operations: Operations) -> Answering | None:
    """Have requests answered by threads of our own, and libfuse read what is left from them. To be
    called in a callback.

    Where libfuse does not offer that (before 3.13), it answers everything, one after the other, and
    `sync -f` goes on reporting the times of removed files.
    """
    library = _mfusepy._libfuse
    functions = _CustomIO(*_answering.addresses(), None, None, None)
    library.fuse_get_session.restype = ctypes.c_void_p
    library.fuse_get_session.argtypes = (ctypes.c_void_p,)
    session = ctypes.c_void_p(library.fuse_get_session(library.fuse_get_context().contents.fuse))
    file = library.fuse_session_fd(session)
    if hasattr(library, "fuse_session_custom_io_317"):
        size = ctypes.c_size_t(ctypes.sizeof(functions))
        failed = library.fuse_session_custom_io_317(session, ctypes.byref(functions), size, file)
    elif (3, 13) <= VERSION < (3, 17) and hasattr(library, "fuse_session_custom_io"):
        failed = library.fuse_session_custom_io(session, ctypes.byref(functions), file)
    else:
        failed = errno.ENOSYS
    if failed:
        log.info("libfuse does not take our input and output: %s", os.strerror(abs(failed)))
        return None

    def failure(operation: str, error: BaseException) -> int:
        return _failure(operations, operation, error)

    return Answering(operations, failure, operations.pages, file)


class _Session(_mfusepy.FUSE):  # type: ignore[misc]
    """mfusepy's session with the missing callbacks. Its constructor returns after the unmount."""

    def _wrapper(self, func: Callable[..., int | None], *args: Any) -> int:
        try:
            return func(*args) or 0
        except BaseException as error:
            return -_failure(self.operations, func.__name__, error)

    answering: Answering | None = None

    def init_fuse_3(self, connection: Any, config: Any) -> None:
        super().init_fuse_3(connection, config)
        _Session.answering = _take_over(self.operations)

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        self.operations.rename(_text(old), _text(new), flags)
        return 0

    def truncate_fuse_3(self, path: bytes | None, length: int, info: Any) -> int:
        self.operations.truncate(_text(path), length, _handle(info))
        return 0

    def chmod_fuse_3(self, path: bytes | None, mode: int, info: Any) -> int:
        self.operations.chmod(_text(path), mode, _handle(info))
        return 0

    def chown_fuse_3(self, path: bytes | None, uid: int, gid: int, info: Any) -> int:
        # (uid_t)-1 arrives as 2**32-1 and means "leave as it is".
        unchanged = 0xFFFFFFFF
        self.operations.chown(
            _text(path),
            -1 if uid == unchanged else uid,
            -1 if gid == unchanged else gid,
            _handle(info),
        )
        return 0

    def utimens_fuse_3(self, path: bytes | None, times: Any, info: Any) -> int:
        if not times:
            pair: tuple[int | None, int | None] = (time_now(), time_now())
        else:
            pair = _nanoseconds(times.contents.actime), _nanoseconds(times.contents.modtime)
        self.operations.utimens(_text(path), pair, _handle(info))
        return 0

    def lseek(self, path: bytes | None, offset: int, whence: int, info: Any) -> int:
        result: int = self.operations.lseek(_text(path), offset, whence, _handle(info))
        return result

    def ioctl(
        self,
        path: bytes | None,
        command: int,
        _argument: Any,
        info: Any,
        _flags: int,
        buffer: int | None,
    ) -> int:
        size = (command >> 16) & 0x3FFF
        given = ctypes.string_at(buffer, size) if buffer is not None and command >> 30 & 1 else b""
        reply = self.operations.ioctl(_text(path), command, _handle(info), given)
        if reply:
            if buffer is None or len(reply) > size:
                raise OSError(errno.EINVAL, "no room for the reply")
            ctypes.memmove(buffer, reply, len(reply))
        return 0

    def write(self, path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        if size < _LARGE:
            data = ctypes.string_at(buffer, size)
        else:
            # Valid until this returns; the volumes copy what they keep.
            data = _memory_view(buffer, size, _PYBUF_READ)
        written: int = self.operations.write(_text(path), data, offset, info.contents.fh)
        return written

    def read(self, path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
        # Pages are decoded where libfuse sends them from.
        out = _memory_view(buffer, size, _PYBUF_WRITE)
        count: int = self.operations.read(_text(path), out, offset, info.contents.fh)
        return count


def serve(operations: Operations, mountpoint: str, options: dict[str, str | bool]) -> None:
    """Mount and answer requests in the calling thread until somebody unmounts.

    ``options`` are libfuse's, e.g. ``{"allow_other": True, "fsname": "/srv/store"}``. Raises
    ``MountProblem`` when the mount does not come about; libfuse then has said why on stderr.
    """
    try:
        _Session(operations, mountpoint, foreground=True, nothreads=True, **options)
    except RuntimeError as error:
        # libfuse's main returns 1..6 for failures before the first request.
        code = error.args[0] if error.args else 0
        if isinstance(code, int) and 1 <= code <= 6:
            raise MountProblem(f"{mountpoint} cannot be mounted") from error
        log.warning("libfuse ended its loop with code %s", code)
    finally:
        if _Session.answering is not None:
            _Session.answering.close()
            _Session.answering = None
