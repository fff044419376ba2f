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

The options that mount(8) passes to every helper (rw, dev, suid, noatime, _netdev, x-..., ...)
are accepted; nodev, nosuid and noexec reach the kernel, the others have no effect here.
"""

import os
from dataclasses import dataclass, field, replace

from difffs.errors import UsageError
from difffs.size import parse_size

_KERNEL_FLAGS = {"nodev", "nosuid", "noexec"}
_IGNORED = {
    "rw", "dev", "suid", "exec", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev",
    "defaults", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
    "strictatime", "nostrictatime", "lazytime", "nolazytime", "async", "sync", "dirsync",
    "default_permissions",
}  # fmt: skip
_IGNORED_PREFIXES = ("x-", "X-", "comment=")


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


def parse_options(texts: list[str], base: MountOptions | None = None) -> MountOptions:
    """Return ``base`` (by default :func:`default_options`) changed by ``-o`` arguments.

    Each text is a comma-separated list. ``UsageError`` names an option that is unknown or has
    an impossible value.
    """
    options = default_options() if base is None else base
    for item in (item for text in texts for item in text.split(",")):
        options = _apply(options, item)
    return options


def _apply(options: MountOptions, item: str) -> MountOptions:
    key, separator, value = item.partition("=")
    match key:
        case "recipe" if value:
            return replace(options, recipe=value)
        case "buffer" if value:
            return replace(options, buffer_bytes=_size(key, value, 1 << 20, 1 << 40))
        case "workers" if value:
            return replace(options, workers=_number(key, value, 1, 256))
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
        if key in _KERNEL_FLAGS:
            return replace(options, kernel_flags=(*options.kernel_flags, key))
        if key in _IGNORED or not key:
            return options
    if item.startswith(_IGNORED_PREFIXES):
        return options
    raise UsageError(
        f"unknown mount option {item!r}: known are ro, recipe=NAME, change_recipe, "
        "buffer=SIZE, workers=N, read_ahead=SIZE, allow_other, no_allow_other, lock_memory"
    )
