"""The tree of names: which volume, directory or symbolic link is called what.

Pure in-memory state with hooks for persistence; it knows neither FUSE nor the database. The
store hands in the records that it holds and takes back the changed ones at each commit. All
methods are to be called under the lock that also guards the commit.

A *regular file* is a volume; its inode number is the volume's number in the page tables. Or it is
an *image*, a file that is made up of two volumes: it *holds* them, and as long as it has its name
they stay as they are, with a name or without. There are no hard links: a file has ``nlink`` 1, or 0
once its name is gone. A file with ``nlink`` 0 is an *orphan*: unlinked, or not linked yet. To be
removed it is *retired*: its record is kept until its pages are freed and :meth:`Namespace.drop` is
called, so that a crash in between loses no space.

A store may keep *domains*: pages are shared within one only. Each directory in the root has a
domain of its own, to which all below it belongs, and what else lies in the root is of domain 0. An
inode's domain never changes: what would bring it into another one is EXDEV, as between two file
systems. Domains are numbered as inodes are, and no number is given out again while anything has it.

Errors about paths are ``OSError`` with the usual numbers (ENOENT, ENOTDIR, EEXIST, ...).
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping

from difffs.errors import CorruptStore
from difffs.page import MAXIMUM_VOLUME_SIZE
from difffs.store.inode import (
    ID_LIMIT,
    NAME_MAXIMUM,
    NUMBER_LIMIT,
    TARGET_MAXIMUM,
    Inode,
    encode_name,
    fitting_time,
    time_now,
)

_PERMISSIONS = 0o7777

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _length(text: str, path: str) -> int:
    """Return the bytes of a name or target; EINVAL for what is no path on any file system."""
    try:
        data = encode_name(text)
    except UnicodeEncodeError:
        raise _error(errno.EINVAL, path) from None
    if b"\0" in data:
        raise _error(errno.EINVAL, path)
    return len(data)


def _require_possible(name: str, path: str) -> None:
    if _length(name, path) > NAME_MAXIMUM:
        raise _error(errno.ENAMETOOLONG, path)


def _require_id(number: int, path: str) -> None:
    if not 0 <= number < ID_LIMIT:
        raise _error(errno.EINVAL, path)


class Namespace:
    """The tree of all inodes of a store."""

    ROOT = 1

    def __init__(self, records: Iterable[tuple[int, bytes]] = (), *, domains: bool = False) -> None:
        """Load ``records`` of (number, packed inode). Without a root directory, one is made; with
        ``domains``, a new tree keeps domains.

        Damaged records do not stop the loading: they are left out, and :meth:`check` tells.
        """
        self._inodes: dict[int, Inode] = {}
        self._children: dict[int, dict[str, int]] = {}
        self._retired: dict[int, Inode] = {}
        self._dirty: set[int] = set()
        self._damage: list[str] = []
        self._last_number = self.ROOT
        for number, record in records:
            self._load(number, record)
        self.has_domains = domains or any(
            inode.domain is not None for inode in self._inodes.values()
        )
        """Whether each directory in the root is a domain."""
        if self.ROOT not in self._inodes:
            now = time_now()
            mode = stat.S_IFDIR | 0o755
            uid, gid = os.getuid(), os.getgid()
            self._inodes[self.ROOT] = Inode(
                self.ROOT, mode, uid, gid, 0, now, now, now, 2, self.ROOT, ""
            )
            self._inodes[self.ROOT].domain = 0 if self.has_domains else None
            self._dirty.add(self.ROOT)
        for inode in self._inodes.values():
            if inode.is_directory:
                self._children.setdefault(inode.number, {})
        self._holders: dict[int, int] = {}
        """Volume to the image that holds it."""
        for inode in self._inodes.values():
            self._attach_loaded(inode)
            if inode.is_image:
                self._hold_parts(inode)

    def _hold_parts(self, image: Inode) -> None:
        for part in (image.skeleton, image.memory):
            self._holders.setdefault(part, image.number)

    def _load(self, number: int, record: bytes) -> None:
        # Even a damaged record's number is never given out again: its pages may still exist.
        self._last_number = max(self._last_number, number)
        try:
            inode = Inode.unpack(record)
        except CorruptStore as error:
            self._damage.append(f"inode {number}: {error}")
            return
        if inode.number != number:
            self._damage.append(f"inode {number}: its record says number {inode.number}")
            return
        self._inodes[number] = inode
        self._last_number = max(self._last_number, inode.domain or 0)

    def keep_above(self, number: int) -> None:
        """Give no inode and no domain a number up to this one, which something may still have."""
        self._last_number = max(self._last_number, number)

    def _attach_loaded(self, inode: Inode) -> None:
        if inode.number == self.ROOT or inode.nlink == 0:
            return
        siblings = self._children.get(inode.parent)
        if siblings is not None:
            siblings.setdefault(inode.name, inode.number)

    # ---- reading -----------------------------------------------------------------------------

    @property
    def is_damaged(self) -> bool:
        """Return whether records were left out because they are damaged."""
        return bool(self._damage)

    def __len__(self) -> int:
        """Count all inodes, orphans included."""
        return len(self._inodes)

    def __iter__(self) -> Iterator[Inode]:
        """Iterate over a snapshot of all inodes, orphans included, in no particular order."""
        return iter(list(self._inodes.values()))

    def get(self, number: int) -> Inode:
        """Return the inode with this number, orphan or not. ENOENT when there is none."""
        try:
            return self._inodes[number]
        except KeyError:
            raise _error(errno.ENOENT, f"inode {number}") from None

    def lookup(self, path: str) -> Inode:
        """Return the inode at an absolute ``path``; links are not followed.

        ENOENT, ENOTDIR, ENAMETOOLONG.
        """
        inode = self._inodes[self.ROOT]
        for name in path.split("/"):
            if not name or name == ".":
                continue
            if not inode.is_directory:
                raise _error(errno.ENOTDIR, path)
            number = self._children[inode.number].get(name)
            if number is None:
                _require_possible(name, path)
                raise _error(errno.ENOENT, path)
            inode = self._inodes[number]
        return inode

    def exists(self, path: str) -> bool:
        """Whether ``path`` names something."""
        try:
            self.lookup(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def children(self, directory: str | int) -> list[Inode]:
        """Return what a directory (path or inode number) holds. ENOENT, ENOTDIR."""
        inode = self.lookup(directory) if isinstance(directory, str) else self.get(directory)
        if not inode.is_directory:
            raise _error(errno.ENOTDIR, inode.name)
        return [self._inodes[number] for number in self._children[inode.number].values()]

    def path(self, number: int) -> str:
        """Return the path of an inode; for an orphan a text that names it as such."""
        inode = self.get(number)
        if inode.nlink == 0:
            return f"(deleted inode {number})"
        names: list[str] = []
        while inode.number != self.ROOT:
            names.append(inode.name)
            parent = self._inodes.get(inode.parent)
            if parent is None or len(names) > len(self._inodes):
                return f"(lost inode {number})"
            inode = parent
        return "/" + "/".join(reversed(names))

    def volumes(self) -> list[Inode]:
        """Return all regular files that have a name, images too."""
        return [inode for inode in self._inodes.values() if inode.is_file and inode.nlink]

    def domain_of(self, number: int) -> int:
        """Return the domain of an inode, also of one that is retired: 0 where there are none."""
        if not self.has_domains:
            return 0
        return (self._retired.get(number) or self.get(number)).domain or 0

    def domain_names(self) -> dict[int, str]:
        """Return the directories that are domains: name by number of the domain, 0 the root's."""
        names = {0: ""}
        for inode in self.children(self.ROOT) if self.has_domains else ():
            if inode.is_directory:
                names[inode.domain or 0] = inode.name
        return names

    def domain_files(self) -> Iterator[tuple[int, int]]:
        """Iterate over (domain, volume) of all volumes, those that are being removed too."""
        for inode in (*self._inodes.values(), *self._retired.values()):
            if inode.is_volume:
                yield inode.domain or 0, inode.number

    def orphans(self) -> list[Inode]:
        """Return the files that have no name any more but still their record and pages: those that
        nobody needs. An image with a name needs its parts."""
        return [
            inode
            for inode in self._inodes.values()
            if inode.nlink == 0 and not self.is_held(inode.number)
        ]

    def is_held(self, number: int) -> bool:
        """Whether a volume is part of an image that has a name: it must stay as it is."""
        holder = self._inodes.get(self._holders.get(number, 0))
        return holder is not None and holder.nlink > 0

    def readlink(self, path: str) -> str:
        """Return a symbolic link's target. EINVAL when ``path`` is something else."""
        inode = self.lookup(path)
        if not inode.is_symlink:
            raise _error(errno.EINVAL, path)
        return inode.target

    # ---- changing ----------------------------------------------------------------------------

    def _split(self, path: str) -> tuple[Inode, str]:
        """Return (parent directory, last name) for a path about to be created."""
        head, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise _error(errno.EEXIST if not name else errno.EINVAL, path)
        _require_possible(name, path)
        parent = self.lookup(head)
        if not parent.is_directory:
            raise _error(errno.ENOTDIR, path)
        return parent, name

    def _number(self, path: str) -> int:
        if self._last_number + 1 >= NUMBER_LIMIT:
            raise _error(errno.ENOSPC, path)
        self._last_number += 1
        return self._last_number

    def domain_for(self, path: str) -> int:
        """Return the domain that a file at ``path`` will belong to: that of the directory in the
        root if it is there, or one for :meth:`mkdir` to make it with. 0 without domains."""
        first, *rest = path.strip("/").split("/")
        if not self.has_domains or not rest:
            return 0
        number = self._children[self.ROOT].get(first)
        if number is None:
            return self._number(path)
        return self._inodes[number].domain or 0

    def _add(
        self,
        path: str,
        mode: int,
        uid: int,
        gid: int,
        target: str = "",
        domain: int | None = None,
    ) -> Inode:
        parent, name = self._split(path)
        if name in self._children[parent.number]:
            raise _error(errno.EEXIST, path)
        if parent.mode & stat.S_ISGID:
            # As on other Linux file systems: the group is inherited, directories pass it on.
            gid = parent.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        inode = self._new(path, mode, uid, gid, target)
        if self.has_domains:
            inode.domain = parent.domain
            if parent.number == self.ROOT and inode.is_directory:
                inode.domain = domain or inode.number
        inode.nlink = 2 if inode.is_directory else 1
        self._attach(inode, parent, name, inode.ctime_ns)
        return inode

    def _new(self, path: str, mode: int, uid: int, gid: int, target: str = "") -> Inode:
        """Return a record that no directory holds."""
        _require_id(uid, path)
        _require_id(gid, path)
        size = _length(target, path)
        number, now = self._number(path), time_now()
        inode = Inode(number, mode, uid, gid, size, now, now, now, 0, self.ROOT, "", target)
        self._inodes[number] = inode
        self._dirty.add(number)
        return inode

    def _attach(self, inode: Inode, parent: Inode, name: str, now: int) -> None:
        inode.parent, inode.name = parent.number, name
        self._children[parent.number][name] = inode.number
        if inode.is_directory:
            self._children[inode.number] = {}
            parent.nlink += 1
        self._changed(parent, now)
        self._dirty.add(inode.number)

    def _changed(self, directory: Inode, now: int) -> None:
        directory.mtime_ns = directory.ctime_ns = now
        self._dirty.add(directory.number)

    def create(self, path: str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Inode:
        """Make an empty regular file. ENOENT, ENOTDIR, EEXIST, ENAMETOOLONG."""
        return self._add(path, stat.S_IFREG | mode & _PERMISSIONS, uid, gid)

    def mkdir(
        self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0, domain: int | None = None
    ) -> Inode:
        """Make an empty directory. Errors as for :meth:`create`. ``domain``: of :meth:`domain_for`,
        for a directory in the root."""
        return self._add(path, stat.S_IFDIR | mode & _PERMISSIONS, uid, gid, domain=domain)

    def create_orphan(
        self, mode: int = 0o644, uid: int = 0, gid: int = 0, domain: int = 0
    ) -> Inode:
        """Make an empty regular file that has no name yet: a crash leaves nothing of it.

        :meth:`link` gives it one; an opening for writing removes those that have none. ``domain``:
        of :meth:`domain_for`, where it will be.
        """
        inode = self._new("", stat.S_IFREG | mode & _PERMISSIONS, uid, gid)
        inode.domain = domain if self.has_domains else None
        return inode

    def link(self, number: int, path: str) -> None:
        """Give an orphan its name. Errors as for :meth:`create`; EPERM when it has one, EXDEV in
        another domain."""
        inode = self.get(number)
        if inode.nlink:
            raise _error(errno.EPERM, path)
        parent, name = self._split(path)
        if name in self._children[parent.number]:
            raise _error(errno.EEXIST, path)
        if inode.domain != parent.domain:
            raise _error(errno.EXDEV, path)
        inode.nlink = 1
        inode.ctime_ns = time_now()
        self._attach(inode, parent, name, inode.ctime_ns)

    def make_image(self, number: int, size: int, skeleton: int, memory: int) -> None:
        """Turn an orphan without pages into an image of that size, which holds two other orphans.

        :meth:`link` gives the image its name, and the memory too if it is to have one. EINVAL when
        one of them is no volume without a name, or of another domain.
        """
        image = self.get(number)
        for inode in (image, self.get(skeleton), self.get(memory)):
            if inode.nlink or not inode.is_volume or inode.number in self._holders:
                raise _error(errno.EINVAL, f"inode {inode.number}")
            if inode.domain != image.domain:
                raise _error(errno.EINVAL, f"inode {inode.number}")
        if skeleton == memory or number in (skeleton, memory):
            raise _error(errno.EINVAL, f"inode {number}")
        image.size, image.skeleton, image.memory = size, skeleton, memory
        self._hold_parts(image)
        self._dirty.add(number)

    def release_parts(self, number: int) -> list[int]:
        """Have an image without a name hold its parts no longer; return those without a name.

        For whoever removes the image: they are to be removed too. EBUSY while it has a name; an
        empty list for what is no image.
        """
        image = self.get(number)
        if not image.is_image:
            return []
        if image.nlink:
            raise _error(errno.EBUSY, self.path(number))
        parts = [part for part in (image.skeleton, image.memory) if part in self._inodes]
        for part in parts:
            if self._holders.get(part) == number:
                del self._holders[part]
        return [part for part in parts if not self._inodes[part].nlink]

    def symlink(self, path: str, target: str, uid: int = 0, gid: int = 0) -> Inode:
        """Make a symbolic link at ``path`` that points to ``target``. Errors as above."""
        if not target:
            raise _error(errno.ENOENT, path)
        if _length(target, path) > TARGET_MAXIMUM:
            raise _error(errno.ENAMETOOLONG, path)
        return self._add(path, stat.S_IFLNK | 0o777, uid, gid, target)

    def unlink(self, path: str) -> Inode:
        """Take the name of a file or link away and return its inode, with ``nlink`` 0.

        A volume or image becomes an orphan, for ``Store.remove``. A link is gone.
        """
        inode = self.lookup(path)
        if inode.is_directory:
            raise _error(errno.EISDIR, path)
        self._detach(inode, time_now())
        return inode

    def rmdir(self, path: str) -> Inode:
        """Remove an empty directory and return its inode. ENOTDIR, ENOTEMPTY, EBUSY (root)."""
        inode = self.lookup(path)
        if not inode.is_directory:
            raise _error(errno.ENOTDIR, path)
        if inode.number == self.ROOT:
            raise _error(errno.EBUSY, path)
        if self._children[inode.number]:
            raise _error(errno.ENOTEMPTY, path)
        self._detach(inode, time_now())
        return inode

    def _detach(self, inode: Inode, now: int) -> None:
        """Take the inode's name away; only a file's record stays, as an orphan's."""
        parent = self._inodes[inode.parent]
        del self._children[parent.number][inode.name]
        if inode.is_directory:
            parent.nlink -= 1
            del self._children[inode.number]
        self._changed(parent, now)
        inode.nlink = 0
        inode.ctime_ns = now
        self._dirty.add(inode.number)
        if not inode.is_file:
            del self._inodes[inode.number]

    def retire(self, number: int) -> None:
        """Let nobody find an orphan any more: only its record stays, until :meth:`drop`.

        EBUSY while it has a name, or is part of an image that has one.
        """
        inode = self.get(number)
        if inode.nlink or self.is_held(number):
            raise _error(errno.EBUSY, self.path(number))
        self._retired[number] = self._inodes.pop(number)

    def drop(self, number: int) -> None:
        """Forget a retired orphan, whose pages are freed: its record goes with the next commit."""
        del self._retired[number]
        self._dirty.add(number)

    def rename(self, old: str, new: str, flags: int = 0) -> Inode | None:
        """Move ``old`` to ``new``; return the inode that was replaced, with ``nlink`` 0, or None.

        ``flags`` are ``RENAME_NOREPLACE`` and ``RENAME_EXCHANGE``. A replaced volume is an orphan
        then, as after :meth:`unlink`. EXDEV when either would come into another domain.
        """
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise _error(errno.EINVAL, new)
        if not old.strip("/") or not new.strip("/"):
            raise _error(errno.EBUSY, old)
        # As the kernel: both directories are found before either of the names is looked at.
        self._split(old)
        parent, name = self._split(new)
        moved = self.lookup(old)
        if moved.is_directory and self._is_inside(parent, moved):
            raise _error(errno.EINVAL, new)
        if not self._keeps_domain(moved, parent):
            raise _error(errno.EXDEV, new)
        number = self._children[parent.number].get(name)
        existing = None if number is None else self._inodes[number]
        now = time_now()
        if flags == RENAME_EXCHANGE:
            if existing is None:
                raise _error(errno.ENOENT, new)
            if existing.is_directory and self._is_inside(self._inodes[moved.parent], existing):
                raise _error(errno.EINVAL, new)
            self._exchange(moved, existing, now)
            return None
        if existing is moved:
            return None
        if existing is not None:
            self._require_replaceable(moved, existing, new, flags)
            self._detach(existing, now)
        self._move(moved, parent, name, now)
        return existing

    def _require_replaceable(self, moved: Inode, existing: Inode, new: str, flags: int) -> None:
        if flags == RENAME_NOREPLACE:
            raise _error(errno.EEXIST, new)
        if existing.is_directory and not moved.is_directory:
            raise _error(errno.EISDIR, new)
        if moved.is_directory and not existing.is_directory:
            raise _error(errno.ENOTDIR, new)
        if existing.is_directory and self._children[existing.number]:
            raise _error(errno.ENOTEMPTY, new)

    def _keeps_domain(self, moved: Inode, parent: Inode) -> bool:
        """Whether what is there already may be moved to a directory. In the root, directories have
        domains of their own, which they keep under another name."""
        if not self.has_domains or moved.parent == parent.number:
            return True
        return self.ROOT not in (moved.parent, parent.number) and moved.domain == parent.domain

    def _is_inside(self, inode: Inode, ancestor: Inode) -> bool:
        """Whether ``inode`` is ``ancestor`` or lies below it."""
        while inode.number != ancestor.number:
            if inode.number == self.ROOT:
                return False
            inode = self._inodes[inode.parent]
        return True

    def _move(self, inode: Inode, parent: Inode, name: str, now: int) -> None:
        source = self._inodes[inode.parent]
        del self._children[source.number][inode.name]
        self._children[parent.number][name] = inode.number
        if inode.is_directory:
            source.nlink -= 1
            parent.nlink += 1
        inode.parent, inode.name = parent.number, name
        inode.ctime_ns = now
        self._dirty.add(inode.number)
        self._changed(source, now)
        self._changed(parent, now)

    def _exchange(self, one: Inode, other: Inode, now: int) -> None:
        one_parent, other_parent = self._inodes[one.parent], self._inodes[other.parent]
        self._children[one_parent.number][one.name] = other.number
        self._children[other_parent.number][other.name] = one.number
        difference = int(other.is_directory) - int(one.is_directory)
        one_parent.nlink += difference
        other_parent.nlink -= difference
        one.parent, other.parent = other.parent, one.parent
        one.name, other.name = other.name, one.name
        for inode in (one, other):
            inode.ctime_ns = now
            self._dirty.add(inode.number)
        self._changed(one_parent, now)
        self._changed(other_parent, now)

    # ---- changing one inode ------------------------------------------------------------------

    def set_mode(self, inode: Inode, mode: int) -> None:
        """Set the permission bits; the kind stays."""
        inode.mode = stat.S_IFMT(inode.mode) | mode & _PERMISSIONS
        self._touched(inode)

    def set_owner(self, inode: Inode, uid: int, gid: int) -> None:
        """Set owner and group; -1 leaves one as it is. EINVAL for what is no such number."""
        uid = inode.uid if uid == -1 else uid
        gid = inode.gid if gid == -1 else gid
        _require_id(uid, inode.name)
        _require_id(gid, inode.name)
        inode.uid, inode.gid = uid, gid
        self._touched(inode)

    def set_times(self, inode: Inode, accessed: int | None, modified: int | None) -> None:
        """Set the times (nanoseconds since 1970); None leaves one as it is.

        A time that no record can hold becomes the nearest that one can.
        """
        if accessed is not None:
            inode.atime_ns = fitting_time(accessed)
        if modified is not None:
            inode.mtime_ns = fitting_time(modified)
        self._touched(inode)

    def set_size(self, inode: Inode, size: int) -> None:
        """Set a volume's size, and its times to now. EFBIG for more than a volume can have."""
        if size > MAXIMUM_VOLUME_SIZE:
            raise _error(errno.EFBIG, inode.name)
        inode.size = size
        inode.mtime_ns = inode.ctime_ns = time_now()
        self._dirty.add(inode.number)

    def note_write(self, number: int, nanoseconds: int) -> None:
        """Set the times of a file that was written then, if it is still there."""
        inode = self._inodes.get(number)
        if inode is not None:
            inode.mtime_ns = inode.ctime_ns = nanoseconds
            self._dirty.add(number)

    def _touched(self, inode: Inode) -> None:
        inode.ctime_ns = time_now()
        self._dirty.add(inode.number)

    def restore_dirty(self, numbers: Iterable[int]) -> None:
        """Take back what :meth:`take_dirty` gave to a commit that failed."""
        self._dirty.update(numbers)

    # ---- persistence -------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether anything has changed since the last :meth:`take_dirty`."""
        return bool(self._dirty)

    def take_dirty(self) -> list[tuple[int, bytes | None]]:
        """Return what changed since the last call as (number, record), None for a record to go.

        To be called in the commit; when the commit fails, hand the numbers back with
        :meth:`restore_dirty`.
        """
        changed: list[tuple[int, bytes | None]] = []
        for number in sorted(self._dirty):
            inode = self._inodes.get(number) or self._retired.get(number)
            changed.append((number, None if inode is None else inode.pack()))
        self._dirty.clear()
        return changed

    # ---- checking ----------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Return one line for every broken invariant; an empty list when all is well."""
        findings = list(self._damage)
        root = self._inodes[self.ROOT]
        if not root.is_directory:
            findings.append("inode 1: the root is not a directory")
        if root.domain != (0 if self.has_domains else None):
            findings.append(f"inode 1: the root is of domain {root.domain}")
        owners: dict[int | None, int] = {}
        for inode in self._inodes.values():
            if (
                self.has_domains
                and inode.is_directory
                and inode.parent == self.ROOT != inode.number
            ):
                first = owners.setdefault(inode.domain, inode.number)
                if first != inode.number or not inode.domain:
                    findings.append(
                        f"inode {inode.number} ({inode.name!r}): domain {inode.domain} is not its"
                        " own"
                    )
        subdirectories: dict[int, int] = {}
        for inode in self._inodes.values():
            findings.extend(self._check_inode(inode))
            if inode.is_directory and inode.number != self.ROOT and inode.nlink:
                subdirectories[inode.parent] = subdirectories.get(inode.parent, 0) + 1
        for inode in self._inodes.values():
            expected = 2 + subdirectories.get(inode.number, 0) if inode.is_directory else 1
            if inode.nlink != expected and not (inode.is_file and inode.nlink == 0):
                findings.append(
                    f"inode {inode.number} ({inode.name!r}): link count is {inode.nlink}, "
                    f"should be {expected}"
                )
        return findings

    def _check_inode(self, inode: Inode) -> Iterator[str]:
        label = f"inode {inode.number} ({inode.name!r})"
        if not (inode.is_directory or inode.is_file or inode.is_symlink):
            yield f"{label}: mode {inode.mode:o} is no file, directory or symbolic link"
        if not 0 < inode.number < NUMBER_LIMIT:
            yield f"{label}: number out of range"
        if inode.is_symlink and not inode.target:
            yield f"{label}: symbolic link without a target"
        for part in (inode.skeleton, inode.memory) if inode.is_image else ():
            volume = self._inodes.get(part)
            if volume is None or not volume.is_volume:
                yield f"{label}: its part, inode {part}, is no volume"
            elif self._holders.get(part) != inode.number:
                yield f"{label}: its part, inode {part}, belongs to inode {self._holders[part]}"
            elif volume.domain != inode.domain:
                yield f"{label}: its part, inode {part}, is of domain {volume.domain}"
        if inode.number == self.ROOT or inode.nlink == 0:
            return
        if not inode.name or "/" in inode.name or len(encode_name(inode.name)) > NAME_MAXIMUM:
            yield f"{label}: impossible name"
        parent = self._inodes.get(inode.parent)
        if parent is not None and inode.domain != self._domain_below(parent, inode):
            yield f"{label}: is of domain {inode.domain}, in a directory of {parent.domain}"
        if parent is None:
            yield f"{label}: its directory, inode {inode.parent}, does not exist"
        elif not parent.is_directory:
            yield f"{label}: its parent, inode {inode.parent}, is not a directory"
        else:
            holder = self._children[parent.number].get(inode.name)
            if holder != inode.number:
                yield f"{label}: the name in inode {inode.parent} belongs to inode {holder}"
            if is_cut_off(self._inodes, inode):
                yield f"{label}: not reachable from the root"

    def _domain_below(self, parent: Inode, inode: Inode) -> int | None:
        """The domain that an inode must have in a directory."""
        if self.has_domains and parent.number == self.ROOT and inode.is_directory:
            return inode.domain  # its own
        return parent.domain


def is_cut_off(inodes: Mapping[int, Inode], inode: Inode) -> bool:
    """Whether the way up from an inode leads round, and not to the root. One that ends at a missing
    directory does not count: that is another matter."""
    seen: set[int] = set()
    while inode.number != Namespace.ROOT:
        if inode.number in seen:
            return True
        seen.add(inode.number)
        parent = inodes.get(inode.parent)
        if parent is None:
            return False
        inode = parent
    return False
