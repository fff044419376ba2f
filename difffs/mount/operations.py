"""What each file operation of the mount does, in terms of volumes and names.

Nothing here knows FUSE: paths and file handles come in, bytes and dictionaries go out, errors
are exceptions. Whatever changes the tables of handles runs in the one thread that knows names;
``read``, ``write`` and ``fsync`` run in others beside it, for handles that the kernel does not
release meanwhile. The namespace is used under ``volumes.lock``.
"""

import errno
import logging
import math
import os
import re
import stat
from collections.abc import Callable, Collection
from typing import Any

from difffs.errors import (
    DifffsError,
    StoreFull,
    StoreReadOnly,
    UsageError,
    VolumeExists,
    VolumeNotFound,
)
from difffs.mount.caller import Caller
from difffs.mount.handles import Handles
from difffs.mount.images import OpenImages
from difffs.mount.kernel_tuning import (
    ATTRIBUTE_SECONDS,
    MAXIMUM_ATTRIBUTE_SECONDS,
    WRITER_ATTRIBUTE_SECONDS,
    KernelTuning,
)
from difffs.mount.live import (
    LOCK_MEMORY_REQUEST,
    REFINE,
    REFINE_REQUEST,
    STATISTICS_REQUEST,
    USAGE,
    USAGE_REQUEST,
    pack_statistics,
)
from difffs.mount.refining import Refining
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE, page_count
from difffs.store.inode import NAME_MAXIMUM, Inode
from difffs.store.namespace import Namespace
from difffs.volume import Volumes

log = logging.getLogger("difffs.mount")

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10

_PAGE_BLOCKS = PAGE_SIZE // 512

_MOST_DOUBLINGS = math.ceil(math.log2(MAXIMUM_ATTRIBUTE_SECONDS / WRITER_ATTRIBUTE_SECONDS))

_ERROR_NUMBERS: tuple[tuple[type[DifffsError], int], ...] = (
    (StoreFull, errno.ENOSPC),
    (StoreReadOnly, errno.EROFS),
    (VolumeExists, errno.EEXIST),
    (VolumeNotFound, errno.ENOENT),
)

# What libfuse renames an open file to when its last name is removed.
_HIDDEN_NAME = re.compile(r"(.*)/\.fuse_hidden[0-9a-f]{16}\Z", re.DOTALL)


def _error(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


class VolumeOperations:
    """The mount's operations over ``volumes``. Times are nanoseconds, sizes bytes."""

    use_ns = True
    # libfuse then leaves out the path where there is a handle, which also saves its making.
    flag_nopath = True
    flag_nullpath_ok = True

    def __init__(
        self,
        volumes: Volumes,
        caller: Caller,
        tuning: KernelTuning,
        collect: Callable[[], dict[str, Any]],
        on_ready: Callable[[], None],
        refining: Refining,
    ) -> None:
        """Serve ``volumes``.

        ``collect`` makes the statistics' object; ``on_ready`` is called, once, in the thread
        that answers the kernel when the kernel has greeted: it must not wait for the mount.
        """
        self._volumes = volumes
        self._names: Namespace = volumes.namespace
        self._caller = caller
        self._tuning = tuning
        self._collect = collect
        self._on_ready = on_ready
        self._refining = refining
        self.pages = volumes.pages
        self._handles = Handles()
        self._images = OpenImages(volumes)

    # ---- errors ------------------------------------------------------------------------------

    def error_number(self, error: BaseException, operation: str) -> int:
        """Return the error number the kernel gets for ``error``; log what is not routine.

        An exception that nobody foresaw is logged with its traceback, and from then on writes
        are refused: the state may be inconsistent, and nothing wrong may reach the disk.
        """
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if isinstance(error, DifffsError):
            for kind, number in _ERROR_NUMBERS:
                if isinstance(error, kind):
                    return number
            log.error("%s: %s", operation, error)
            return errno.EIO
        log.error(
            "unexpected error in %s; writes are refused from now on", operation, exc_info=error
        )
        self._volumes.fail(
            DifffsError(
                f"an unexpected error in {operation} ({error!r}) stopped all writing: "
                "unmount, run difffs check, and report the traceback in the log"
            )
        )
        return errno.EIO

    def _require_health(self) -> None:
        if self._volumes.failed is not None:
            raise self._volumes.failed.again()

    # ---- the session -------------------------------------------------------------------------

    def init_with_config(self, connection: Any, config: Any) -> None:
        """Agree with the kernel on sizes, caching and timeouts."""
        self._tuning.negotiate(connection, config)
        self._on_ready()

    # ---- finding things ----------------------------------------------------------------------

    def _find(self, path: str | None, handle: int | None = None) -> Inode:
        number = self._handles.number(handle)
        if number is not None:
            return self._names.get(number)
        if path is None:
            raise _error(errno.EBADF)
        number = self._handles.hidden(path)
        if number is not None:
            return self._names.get(number)
        return self._names.lookup(path)

    def _volume(self, path: str | None, handle: int | None) -> int:
        """Return the number of the volume that a data operation is about; an image's skeleton."""
        image = self._handles.image(handle)
        if image is not None:
            return image.skeleton
        known = self._handles.number(handle)
        if known is not None:
            return known
        inode = self._find(path)
        if not inode.is_volume:
            raise _error(errno.EISDIR if inode.is_directory else errno.EINVAL, path)
        return inode.number

    def _require_changeable(self, number: int) -> None:
        """Raise EPERM, as for a file with chattr +i, for an image and for the parts of one, as long
        as it has its name or is open: what it is made up of must stay as it is."""
        with self._volumes.lock:
            fixed = self._names.get(number).is_image or self._names.is_held(number)
            if fixed or self._handles.is_needed(number):
                raise _error(errno.EPERM)

    # ---- attributes --------------------------------------------------------------------------

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, int]:
        """Return the attributes as in ``struct stat``."""
        with self._volumes.lock:
            inode = self._find(path, fh)
            if inode.is_volume:
                self._volumes.note_writes(inode.number)
            blocks, seconds = self._blocks(inode)
            self._tuning.let_attributes_live(seconds)
            return {
                "st_ino": inode.number,
                "st_mode": inode.mode,
                "st_nlink": inode.nlink,
                "st_uid": inode.uid,
                "st_gid": inode.gid,
                "st_size": inode.size,
                "st_blksize": PAGE_SIZE,
                "st_blocks": blocks,
                "st_atime": inode.atime_ns,
                "st_mtime": inode.mtime_ns,
                "st_ctime": inode.ctime_ns,
            }

    def _blocks(self, inode: Inode) -> tuple[int, float]:
        """Return the 512-byte blocks that du, tar and cp see, and for how many seconds they hold.

        Archivers take a file without blocks for one hole. So all counts that holds data or may do
        so: pages that wait in the buffer, and, as long as a writer has the file open, its whole
        size, because the kernel keeps written pages to itself for a while.
        """
        if inode.is_image:
            # What it takes is another matter: parts of it are shared with its memory's volume.
            return page_count(inode.size) * _PAGE_BLOCKS, MAXIMUM_ATTRIBUTE_SECONDS
        if not inode.is_volume:
            return 0, ATTRIBUTE_SECONDS
        size, pages = inode.size, self._volumes.data_pages(inode.number)
        writers = set(self._handles.writers(inode.number))
        if writers:
            known = (self._caller.cached_size(inode.number, process) for process in writers)
            size = max(size, *(size or 0 for size in known))
            # Asking again and again would hold up who writes: the question waits behind the data.
            growths = self._handles.count_growth(inode.number, size)
            seconds = MAXIMUM_ATTRIBUTE_SECONDS
            if growths is not None:
                doublings = min(growths, _MOST_DOUBLINGS)  # a file may grow for ever, a float not
                seconds = min(seconds, WRITER_ATTRIBUTE_SECONDS * 2.0**doublings)
            return max(1, page_count(size)) * _PAGE_BLOCKS, seconds
        # A file that seems to be one hole is asked for again, lest a writer opens it meanwhile.
        return pages * _PAGE_BLOCKS, ATTRIBUTE_SECONDS if pages else 0.0

    def chmod(self, path: str | None, mode: int, fh: int | None = None) -> None:
        """Set the permission bits."""
        with self._volumes.lock:
            inode = self._find(path, fh)
            self._require_health()
            self._names.set_mode(inode, mode)

    def chown(self, path: str | None, uid: int, gid: int, fh: int | None = None) -> None:
        """Set owner and group; -1 leaves one as it is."""
        with self._volumes.lock:
            inode = self._find(path, fh)
            self._require_health()
            self._names.set_owner(inode, uid, gid)

    def utimens(
        self, path: str | None, times: tuple[int | None, int | None], fh: int | None = None
    ) -> None:
        """Set access and modification time; None leaves one as it is.

        A time that no record can hold becomes the nearest that one can (1677 to 2262).
        """
        with self._volumes.lock:
            inode = self._find(path, fh)
            self._require_health()
            self._names.set_times(inode, *times)

    # There is no getxattr: once it has been told so, the kernel stops asking for
    # security.capability before every single write. The statistics take the way of an ioctl.

    def ioctl(self, path: str | None, command: int, fh: int | None, given: bytes = b"") -> bytes:
        """Answer the requests that there are, on the root directory and on open volumes."""
        if command == USAGE_REQUEST:
            chunk = USAGE.unpack(given)[0]
            usage, chunk = self._volumes.store.usage_from(self._volume(path, fh), chunk)
            return USAGE.pack(chunk, usage.pages, usage.zero, usage.stored)
        if command not in (STATISTICS_REQUEST, LOCK_MEMORY_REQUEST, REFINE_REQUEST):
            raise _error(errno.ENOTTY, path)
        with self._volumes.lock:
            if self._find(path, fh).number != Namespace.ROOT:
                raise _error(errno.ENOTTY, path)
        if command == STATISTICS_REQUEST:
            return pack_statistics(self._collect())
        user = self._caller.identity()[0]
        if command == REFINE_REQUEST:
            if user not in (0, os.geteuid()):
                raise _error(errno.EPERM, path)
            tier, seconds = REFINE.unpack(given)
            self._refine(tier, seconds, path)
            return b""
        if user != 0:
            raise _error(errno.EPERM, path)
        self._tuning.lock_memory()
        self._volumes.keeps_memory = True
        return b""

    def _refine(self, tier: bytes, seconds: float, path: str | None) -> None:
        name = tier.rstrip(b"\0").decode(errors="replace")
        if not name:
            self._refining.stop()
            return
        try:
            self._refining.start(name, seconds or None)
        except UsageError:
            raise _error(errno.EINVAL, path) from None

    def statfs(self, path: str) -> dict[str, int]:
        """Return what df shows.

        Used is what payloads and metadata occupy; free is what the store could still grow by,
        counted in stored bytes: the free space of its file system and its own slack.
        """
        occupancy = self._volumes.store.occupancy()
        unit = PAGE_SIZE
        available = self._volumes.store.free_bytes() + occupancy.slack
        used = occupancy.payload + occupancy.metadata
        with self._volumes.lock:
            inodes = len(self._names)
        free_inodes = (1 << 32) - inodes
        return {
            "f_bsize": unit,
            "f_frsize": unit,
            "f_blocks": (used + available) // unit,
            "f_bfree": available // unit,
            "f_bavail": available // unit,
            "f_files": 1 << 32,
            "f_ffree": free_inodes,
            "f_favail": free_inodes,
            "f_namemax": NAME_MAXIMUM,
        }

    # ---- directories and links ---------------------------------------------------------------

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        """Return names with inode numbers and types."""
        with self._volumes.lock:
            directory = self._names.lookup(path) if path is not None else self._find(path, fh)
            entries = [(".", directory), ("..", self._names.get(directory.parent))]
            entries.extend((inode.name, inode) for inode in self._names.children(directory.number))
            return [
                (name, {"st_ino": inode.number, "st_mode": inode.mode}, 0)
                for name, inode in entries
            ]

    def opendir(self, path: str) -> int:
        """Return a handle: directories are read without their path."""
        with self._volumes.lock:
            inode = self._names.lookup(path)
            if not inode.is_directory:
                raise _error(errno.ENOTDIR, path)
            return self._handles.add(inode)

    def releasedir(self, path: str | None, fh: int) -> None:
        """Forget the handle."""
        self._handles.remove(fh)

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory."""
        self._require_health()
        uid, gid = self._caller.identity()
        with self._volumes.lock:
            self._refuse_reserved(path)
            self._names.mkdir(path, mode, uid, gid)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._require_health()
        with self._volumes.lock:
            self._names.rmdir(path)

    def symlink(self, target: str, source: str) -> None:
        """Make a symbolic link at ``target`` that holds the text ``source``."""
        self._require_health()
        uid, gid = self._caller.identity()
        with self._volumes.lock:
            self._refuse_reserved(target)
            self._names.symlink(target, source, uid, gid)

    def readlink(self, path: str) -> str:
        """Return a link's text."""
        with self._volumes.lock:
            return self._names.readlink(path)

    def link(self, target: str, source: str) -> None:
        """Refuse: there are no hard links."""
        raise _error(errno.EPERM, target)

    # ---- names of volumes --------------------------------------------------------------------

    def _refuse_reserved(self, path: str) -> None:
        if _HIDDEN_NAME.match(path):
            raise _error(errno.EPERM, path)

    def mknod(self, path: str, mode: int, device: int) -> None:
        """Make an empty volume; devices, sockets and pipes are refused."""
        self._require_health()
        if not stat.S_ISREG(mode):
            raise _error(errno.EPERM, path)
        self._make(path, mode)

    def _make(self, path: str, mode: int) -> Inode:
        uid, gid = self._caller.identity()
        with self._volumes.lock:
            self._refuse_reserved(path)
            return self._names.create(path, mode, uid, gid)

    def create(self, path: str, mode: int, flags: int) -> int:
        """Make an empty volume and open it; return its handle."""
        self._require_health()
        return self._open(self._make(path, mode), flags)

    def open(self, path: str, flags: int) -> int:
        """Open a volume or an image; return its handle."""
        with self._volumes.lock:
            inode = self._find(path)
        if not inode.is_file:
            raise _error(errno.EISDIR if inode.is_directory else errno.ELOOP, path)
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            self._require_changeable(inode.number)
        if flags & os.O_TRUNC:
            self._require_health()
            self._volumes.truncate(inode.number, 0)
        return self._open(inode, flags)

    def _open(self, inode: Inode, flags: int) -> int:
        writer = self._writer(flags)
        handle = self._handles.add(inode, writer)
        if inode.is_volume:
            with self._volumes.lock:
                self.pages.open(handle, inode.number, inode.size, writer is not None)
        return handle

    def _writer(self, flags: int) -> int | None:
        """Return the calling process if it opens a file with these flags to write."""
        return None if flags & os.O_ACCMODE == os.O_RDONLY else self._caller.process()

    def release(self, path: str | None, fh: int) -> None:
        """Forget the handle; with the last handle of an unlinked file, its pages go too."""
        self.pages.close(fh)
        number = self._handles.remove(fh)
        if number is None:
            return
        self._images.forget(number)
        if self._handles.reveal(number):
            self._remove(number)

    def _remove(self, number: int) -> None:
        """Remove a file that has lost its name. Parts of images go when nobody needs them any more:
        with the image, or with their own last handle if that is later."""
        if not self._handles.is_needed(number):
            self._volumes.remove(number, in_use=self._handles.is_open)

    def close(self) -> None:
        """Remove the unlinked files whose last close never came: the mount is gone."""
        hidden = set(self._handles.close())
        with self._volumes.lock:
            # An image goes before its parts, lest a crash leaves one that lacks them.
            order = sorted(hidden, key=lambda number: not self._names.get(number).is_image)
        for number in order:
            self._volumes.remove(number, in_use=hidden.__contains__)

    def unlink(self, path: str) -> None:
        """Remove a file or link; what is open has been hidden by :meth:`rename` before."""
        self._require_health()
        with self._volumes.lock:
            inode = self._names.unlink(path)
        if inode.is_file:
            self._remove(inode.number)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        """Move ``old`` to ``new``, replacing it unless ``flags`` forbid that.

        libfuse hides a file that is unlinked or replaced while open by renaming it. Here it
        loses its name at once instead, and its record lives on until the last close: a crash
        in between leaves an orphan that the next mount removes, and nobody ever sees the name.
        """
        self._require_health()
        with self._volumes.lock:
            hidden = _HIDDEN_NAME.match(new)
            if hidden:
                inode = self._names.lookup(old)
                same_directory = old.rpartition("/")[0] == hidden.group(1)
                is_open = self._handles.is_open(inode.number)
                if not (inode.is_file and same_directory and is_open):
                    raise _error(errno.EPERM, new)
                self._handles.hide(new, self._names.unlink(old))
                return
            replaced = self._names.rename(old, new, flags)
        if replaced is not None and replaced.is_file:
            self._remove(replaced.number)

    # ---- data --------------------------------------------------------------------------------

    def read(self, path: str | None, out: memoryview, offset: int, fh: int) -> int:
        """Fill ``out`` from ``offset`` on; return how many bytes of it count, fewer at the end.

        EIO for a damaged page, named in the log, and for an image that cannot be put together.
        """
        image = self._handles.image(fh)
        number = self._volume(path, fh) if image is None else image.number
        try:
            if image is not None:
                return self._images.read_into(image, offset, out)
            return self._volumes.read_into(number, offset, out)
        except DifffsError as error:
            raise self._damage(number, error) from error

    def _damage(self, number: int, error: DifffsError) -> OSError:
        """Name a damaged file in the log; return what the kernel gets."""
        log.error("reading %s: %s", self._names.path(number), error)
        return _error(errno.EIO)

    def write(self, path: str | None, data: bytes | memoryview, offset: int, fh: int) -> int:
        """Write ``data`` at ``offset``; return its length. EBADF when ``fh`` was not opened for
        that, which for an image and its parts none is."""
        number = self._handles.number(fh)
        if number is None or not self._handles.is_writer(fh, number):
            raise _error(errno.EBADF, path)
        return self._volumes.write(number, offset, data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        """Set the size."""
        self._require_health()
        if length > MAXIMUM_VOLUME_SIZE:
            raise _error(errno.EFBIG, path)
        with self._volumes.lock:
            number = self._find(path, fh).number
        self._require_changeable(number)
        self._volumes.truncate(number, length)

    def fallocate(self, path: str | None, mode: int, offset: int, length: int, fh: int) -> None:
        """Punch holes, zero ranges, or grow. Space is not reserved: pages have no fixed size."""
        self._require_health()
        if offset < 0 or length <= 0:
            raise _error(errno.EINVAL, path)
        if offset + length > MAXIMUM_VOLUME_SIZE:
            raise _error(errno.EFBIG, path)
        number = self._volume(path, fh)
        self._require_changeable(number)
        keep_size = bool(mode & FALLOC_FL_KEEP_SIZE)
        kind = mode & ~FALLOC_FL_KEEP_SIZE
        if kind == FALLOC_FL_PUNCH_HOLE and keep_size:
            self._volumes.punch(number, offset, length)
        elif kind == FALLOC_FL_ZERO_RANGE:
            self._volumes.punch(number, offset, length)
            if not keep_size:
                self._volumes.allocate(number, offset, length)
        elif kind == 0:
            if not keep_size:
                self._volumes.allocate(number, offset, length)
        else:
            raise _error(errno.EOPNOTSUPP, path)

    def lseek(self, path: str | None, offset: int, whence: int, fh: int | None) -> int:
        """Find the next data or hole.

        The kernel keeps written pages of a file that is open for writing to itself for a while,
        and asks here without sending them first: what looks like a hole may hold data. So as
        long as a writer has the file open, all of it counts as data. The last close of a writer
        sends everything.
        """
        image = self._handles.image(fh)
        if image is not None:
            seek = self._images.seek_data if whence == os.SEEK_DATA else self._images.seek_hole
            try:
                return seek(image, offset)
            except DifffsError as error:
                raise self._damage(image.number, error) from error
        number = self._volume(path, fh)
        if not self._handles.writers(number):
            if whence == os.SEEK_DATA:
                return self._volumes.seek_data(number, offset)
            return self._volumes.seek_hole(number, offset)
        size = self._caller.cached_size(number)
        if size is None:
            # Not even the size is known for sure. Programs then read everything.
            raise _error(errno.EINVAL, path)
        if offset >= size:
            raise _error(errno.ENXIO, path)
        return offset if whence == os.SEEK_DATA else size

    # ---- durability --------------------------------------------------------------------------

    def flush(self, path: str | None, fh: int) -> None:
        """Answer a close: it reports a failure of earlier writes, and does not wait for them."""
        self._require_health()

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        """Return when what was written to the file before is committed to the store's files."""
        self.synchronise([fh])

    def synchronise(self, handles: Collection[int]) -> None:
        """Return when all names are committed, and what was written before to the files behind
        these handles; to all files where one of them is none."""
        numbers = {self._handles.number(handle) for handle in handles}
        known = {number for number in numbers if number is not None}
        self._volumes.flush(known if len(known) == len(numbers) else None)

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> None:
        """Return when all names, and everything written before, are committed."""
        self._volumes.flush()
