"""The record of one file, directory or symbolic link, and what fits into it.

What callers hand in is bounded here, at the door: a record that is in memory can always be packed,
so that no commit fails for something that came from outside.
"""

import stat
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Self

from difffs.errors import CorruptStore, FormatTooNew

_CLOCK_REALTIME_COARSE = 5
"""Linux's number; Python has no name for it."""

NAME_MAXIMUM = 255
"""Longest name of one path component, in bytes."""

TARGET_MAXIMUM = 4095
"""Longest target of a symbolic link, in bytes."""

NUMBER_LIMIT = 1 << 32
"""Inode numbers are below this."""

TIME_MINIMUM, TIME_MAXIMUM = -(1 << 63), (1 << 63) - 1
"""Nanoseconds since 1970 that a record can hold: from 1677 to 2262."""

ID_LIMIT = 1 << 32
"""User and group numbers are below this."""

_PLAIN, _IMAGE = 1, 2
"""Versions of a record: an image's has its parts behind the head."""
_WITH_DOMAIN = 2
"""Added to either where the store has domains: the inode's is the first behind the head."""
# version, number, mode, uid, gid, nlink, parent, size, atime, mtime, ctime, name and target lengths
_HEAD = struct.Struct("<BIIIIIIQqqqHH")
_DOMAIN = struct.Struct("<I")
_PARTS = struct.Struct("<II")  # skeleton, memory
_CHECKSUM = struct.Struct("<I")


def encode_name(text: str) -> bytes:
    """Return a name's or target's bytes: UTF-8, and bytes that are none as they were."""
    return text.encode("utf-8", "surrogateescape")


def fitting_time(nanoseconds: int) -> int:
    """Return the nearest time that a record can hold, as Linux does for its own file systems."""
    return max(TIME_MINIMUM, min(TIME_MAXIMUM, nanoseconds))


def time_now() -> int:
    """Return the time, in nanoseconds since 1970.

    By the clock that the kernel takes for its files, which stands still between two ticks: it sets
    times of the same files itself, and those must not be earlier than what was set here before.
    """
    return fitting_time(time.clock_gettime_ns(_CLOCK_REALTIME_COARSE))


@dataclass(slots=True)
class Inode:
    """One file, directory or symbolic link. Times are nanoseconds since 1970, sizes bytes."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    nlink: int
    parent: int
    name: str
    target: str = ""
    skeleton: int = 0
    """Of an image: the volume that holds what is no memory, and how the file is made up; else 0."""
    memory: int = 0
    """Of an image: the volume that holds the guest's memory; else 0."""
    domain: int | None = None
    """Whose pages these are, and what is below it: none is shared with another domain. None: the
    store has no domains. Never changes."""

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_volume(self) -> bool:
        """Whether this is a regular file with pages: its number names a page table."""
        return stat.S_ISREG(self.mode) and not self.skeleton

    @property
    def is_image(self) -> bool:
        """Whether this is a file that is made up of two volumes (difffs.stored_image)."""
        return stat.S_ISREG(self.mode) and self.skeleton != 0

    @property
    def is_file(self) -> bool:
        """Whether this is a volume or an image."""
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    def pack(self) -> bytes:
        """Return the record: fixed head, domain, an image's parts, name and target in UTF-8, CRC-32
        of all before it."""
        name, target = encode_name(self.name), encode_name(self.target)
        version = _IMAGE if self.skeleton else _PLAIN
        head = _HEAD.pack(
            version if self.domain is None else version + _WITH_DOMAIN,
            self.number,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.parent,
            self.size,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            len(name),
            len(target),
        )
        if self.domain is not None:
            head += _DOMAIN.pack(self.domain)
        if self.skeleton:
            head += _PARTS.pack(self.skeleton, self.memory)
        body = head + name + target
        return body + _CHECKSUM.pack(zlib.crc32(body))

    @classmethod
    def unpack(cls, record: bytes) -> Self:
        """Rebuild an inode from :meth:`pack`'s bytes.

        Raises ``CorruptStore`` when length or checksum are wrong, ``FormatTooNew`` for a record
        of a later version.
        """
        if len(record) < _HEAD.size + _CHECKSUM.size:
            raise CorruptStore(f"inode record is only {len(record)} bytes long")
        body, tail = record[: -_CHECKSUM.size], record[-_CHECKSUM.size :]
        if _CHECKSUM.unpack(tail)[0] != zlib.crc32(body):
            raise CorruptStore("inode record fails its checksum")
        (
            version,
            number,
            mode,
            uid,
            gid,
            nlink,
            parent,
            size,
            atime,
            mtime,
            ctime,
            names,
            targets,
        ) = _HEAD.unpack_from(body)
        has_domain = version > _WITH_DOMAIN
        form = version - _WITH_DOMAIN if has_domain else version
        if form not in (_PLAIN, _IMAGE):
            raise FormatTooNew(f"inode record has version {version}: use a newer difffs")
        parts = _HEAD.size + (_DOMAIN.size if has_domain else 0)
        start = parts + (_PARTS.size if form == _IMAGE else 0)
        if len(body) != start + names + targets:
            raise CorruptStore("inode record has the wrong length for its names")
        domain = _DOMAIN.unpack_from(body, _HEAD.size)[0] if has_domain else None
        skeleton, memory = _PARTS.unpack_from(body, parts) if form == _IMAGE else (0, 0)
        middle = start + names
        return cls(
            number,
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
            ctime,
            nlink,
            parent,
            body[start:middle].decode("utf-8", "surrogateescape"),
            body[middle:].decode("utf-8", "surrogateescape"),
            skeleton,
            memory,
            domain,
        )
