"""The mount's options: ``-o key=value,...``.

=====================  =======  ================================================================
option                 default  meaning
=====================  =======  ================================================================
ro                              mount read-only; nothing in the store is changed
recipe=NAME                     the recipe of a new store; for an existing one it must match
change_recipe                   use that recipe for new pages of an existing store
buffer=SIZE            32M      bound of the write buffer
workers=N              2        threads that encode a batch of pages
read_ahead=SIZE        128K     how far sequential reads run ahead
allow_other            as root  let other users in (file modes decide what they may do)
no_allow_other                  the opposite, for root
lock_memory                     keep the daemon in memory and last in line of the OOM killer
                                (``difffs swapon`` sets it)
=====================  =======  ================================================================

mount(8)'s options for every file system are accepted. Those that restrict a mount or are about
access times reach the kernel (difffs/mount/flags.py), ``remount`` changes a mount that there is
(difffs/mount/remount.py), the others (_netdev, x-..., ...) have no effect here.
"""

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

from difffs.errors import UsageError
from difffs.mount.flags import changed_by
from difffs.size import format_size, parse_size

_IGNORED = {
    "auto", "noauto", "nouser", "nousers", "noowner", "nogroup", "nofail", "_netdev", "defaults",
    "lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "silent", "loud",
    "default_permissions",
}  # fmt: skip
_IGNORED_PREFIXES = (
    "x-", "X-", "comment=", "helper=", "uhelper=",
    # what the kernel shows of a FUSE mount, and mount(8) hands back with remount
    "user_id=", "group_id=", "max_read=",
)  # fmt: skip
_SELINUX_OPTIONS = ("context=", "fscontext=", "defcontext=", "rootcontext=")
_SELINUX = "/sys/fs/selinux/enforce"


WORKERS_MAXIMUM = 256
"""Threads that encode."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount; sizes in bytes."""

    read_only: bool = False
    recipe: str | None = None
    change_recipe: bool = False
    buffer_bytes: int = 32 << 20
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    read_ahead_bytes: int = 128 << 10
    allow_other: bool = False
    lock_memory: bool = False
    kernel_flags: tuple[str, ...] = ()
    """Names in :data:`difffs.mount.flags.FLAGS`, each once, sorted."""
    remount: bool = False

    def changed_by_mounting_anew(self) -> dict[str, Any]:
        """Return the options that a mount keeps for its life, under their option's names."""
        return {
            "buffer": self.buffer_bytes,
            "workers": self.workers,
            "read_ahead": self.read_ahead_bytes,
            "allow_other": self.allow_other,
            "lock_memory": self.lock_memory,
        }


def default_options() -> MountOptions:
    """Return what holds without any option for the user who runs this."""
    return MountOptions(allow_other=os.geteuid() == 0)


def _number(key: str, value: str, smallest: int, largest: int) -> int:
    if not value.isdecimal() or not smallest <= int(value) <= largest:
        raise UsageError(f"mount option {key}={value}: needs a number from {smallest} to {largest}")
    return int(value)


def _size(key: str, value: str, smallest: int, largest: int) -> int:
    try:
        size = parse_size(value)
    except UsageError as error:
        raise UsageError(f"mount option {key}={value}: {error}") from None
    if not smallest <= size <= largest:
        raise UsageError(
            f"mount option {key}={value}: needs a size from {smallest} to {largest} bytes"
        )
    return size


def _buffer(key: str, value: str) -> int:
    size = _size(key, value, 1 << 20, 1 << 62)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory // 2:
        raise UsageError(
            f"mount option {key}={value}: the write buffer stays in memory, of which this machine "
            f"has {format_size(memory)}; at most half of it, and 32M is plenty"
        )
    return size


def parse_options(texts: list[str], base: MountOptions | None = None) -> MountOptions:
    """Return ``base`` (by default :func:`default_options`) changed by ``-o`` arguments.

    Each text is a comma-separated list. ``UsageError`` names an option that is unknown or has
    an impossible value.
    """
    options = default_options() if base is None else base
    for text in texts:
        # a value in quotes may hold commas
        for item in re.findall(r'(?:[^",]|"[^"]*"|")+', text):
            options = _apply(options, item)
    return options


def _apply(options: MountOptions, item: str) -> MountOptions:
    key, separator, value = item.partition("=")
    match key:
        case "recipe" if value:
            return replace(options, recipe=value)
        case "buffer" if value:
            return replace(options, buffer_bytes=_buffer(key, value))
        case "workers" if value:
            return replace(options, workers=_number(key, value, 1, WORKERS_MAXIMUM))
        case "read_ahead" if value:
            return replace(options, read_ahead_bytes=_size(key, value, 0, 64 << 20))
    if not separator:
        match key:
            case "ro":
                return replace(options, read_only=True)
            case "rw":
                return replace(options, read_only=False)
            case "allow_other":
                return replace(options, allow_other=True)
            case "no_allow_other":
                return replace(options, allow_other=False)
            case "change_recipe":
                return replace(options, change_recipe=True)
            case "lock_memory":
                return replace(options, lock_memory=True)
            case "remount":
                return replace(options, remount=True)
    flags = changed_by(key if key == "user" else item, options.kernel_flags)
    if flags is not None:
        return replace(options, kernel_flags=flags)
    if item in _IGNORED or item.startswith(_IGNORED_PREFIXES):
        return options
    if item.startswith(_SELINUX_OPTIONS):
        if os.path.exists(_SELINUX):
            raise UsageError(f"mount option {item}: there are no labels in a store; leave it out")
        return options  # as mount(8) does without SELinux
    raise UsageError(
        f"unknown mount option {item!r}: known are ro, recipe=NAME, change_recipe, "
        "buffer=SIZE, workers=N, read_ahead=SIZE, allow_other, no_allow_other, lock_memory"
    )
