"""Volumes' names on the command line."""

import os

from difffs.cli.report import printable
from difffs.errors import CorruptStore, UsageError, VolumeNotFound
from difffs.store import Store
from difffs.store.inode import NAME_MAXIMUM, Inode, encode_name

_LISTED = 8


def volume_path(name: str) -> str:
    """Return the path in the store that a name means. ``UsageError`` for what can be none."""
    path = "/" + name.strip("/")
    parts = path[1:].split("/")
    if path == "/" or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{name!r} cannot be a volume's name")
    if any(len(encode_name(part)) > NAME_MAXIMUM for part in parts):
        raise UsageError(
            f"{name[:40]}... cannot be a volume's name: there are at most {NAME_MAXIMUM} bytes"
            " between slashes"
        )
    return path


def find(store: Store, name: str) -> Inode:
    """Return the volume, directory or link of that name. ``VolumeNotFound`` lists what there is;
    ``CorruptStore`` where damage may have taken it."""
    path = volume_path(name)
    if not store.namespace.exists(path):
        if store.namespace.is_damaged:
            raise CorruptStore(
                f"{store.path} finds no volume {name!r}, but some of its names are damaged;"
                " run `difffs check` and restore the store from a copy"
            )
        raise _not_found(store, name)
    return store.namespace.lookup(path)


def find_file(store: Store, name: str) -> Inode:
    """Return the volume or image of that name. ``VolumeNotFound`` lists those that there are."""
    inode = find(store, name)
    if not inode.is_file:
        raise _not_found(store, name)
    return inode


def _not_found(store: Store, name: str) -> VolumeNotFound:
    names = store.namespace
    known = sorted(names.path(volume.number)[1:] for volume in names.volumes())
    listed = ", ".join(map(printable, known[:_LISTED])) + (", ..." if len(known) > _LISTED else "")
    return VolumeNotFound(f"{store.path} holds no volume {name!r}; it holds {listed or 'none'}")


def basename(path: str) -> str:
    """Return a path's last component."""
    return os.path.basename(path.rstrip("/"))
