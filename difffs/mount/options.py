"""The mount's options: ``-o key=value,...``.

:data:`OPTIONS` has those of difffs's own. mount(8)'s options for every file system are accepted.
Those that restrict a mount or are about access times reach the kernel (difffs/mount/flags.py),
``remount`` changes a mount that there is (difffs/mount/remount.py), the others (_netdev, x-...,
...) have no effect here.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from difffs.duration import parse_duration
from difffs.errors import UsageError
from difffs.mount.flags import changed_by
from difffs.refine.tiers import TIERS
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
    domains: bool = False
    """The store is made, or was made, with domains."""
    buffer_bytes: int = 32 << 20
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    read_ahead_bytes: int = 128 << 10
    allow_other: bool = False
    lock_memory: bool = False
    kernel_flags: tuple[str, ...] = ()
    """Names in :data:`difffs.mount.flags.FLAGS`, each once, sorted."""
    remount: bool = False
    refine: str | None = None
    """The tier to which the mount refines by itself."""
    refine_after: float = 600.0
    """Seconds without a write after which it does."""

    def changed_by_mounting_anew(self) -> dict[str, Any]:
        """Return the options that a mount keeps for its life, under their option's names."""
        return {
            "buffer": self.buffer_bytes,
            "workers": self.workers,
            "read_ahead": self.read_ahead_bytes,
            "allow_other": self.allow_other,
            "lock_memory": self.lock_memory,
            "refine": self.refine,
            "refine_after": self.refine_after,
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


def _tier(key: str, value: str) -> str | None:
    if value not in (*TIERS, "no"):
        raise UsageError(f"mount option {key}={value}: needs {', '.join(TIERS)} or no")
    return None if value == "no" else value


def _seconds(key: str, value: str) -> float:
    try:
        return parse_duration(value)
    except UsageError as error:
        raise UsageError(f"mount option {key}={value}: {error}") from None


@dataclass(frozen=True, slots=True)
class Option:
    """An option of difffs's own."""

    name: str
    value: str
    """What stands for its value where it is shown; empty: it has none."""
    default: str
    """What holds without it, as it is shown."""
    meaning: str
    change: Callable[[MountOptions, str], MountOptions]
    """Returns the options with this one, whose value is the second argument. ``UsageError``."""

    @property
    def form(self) -> str:
        """As it is written: ``buffer=SIZE``."""
        return f"{self.name}={self.value}" if self.value else self.name


OPTIONS = {
    option.name: option
    for option in (
        Option(
            *("ro", "", ""),
            "read-only; nothing in the store is changed, not even its log",
            lambda options, _: replace(options, read_only=True),
        ),
        Option(
            *("recipe", "NAME", "default"),
            "the recipe of a new store; an existing store's must match",
            lambda options, name: replace(options, recipe=name),
        ),
        Option(
            *("change_recipe", "", ""),
            "use recipe for the new pages of an existing store",
            lambda options, _: replace(options, change_recipe=True),
        ),
        Option(
            *("domains", "", ""),
            "in a new store, share pages only within a directory of its root; an existing one must"
            " have been made so",
            lambda options, _: replace(options, domains=True),
        ),
        Option(
            *("buffer", "SIZE", "32M"),
            "bound of the write buffer; at most half of the machine's memory",
            lambda options, size: replace(options, buffer_bytes=_buffer("buffer", size)),
        ),
        Option(
            *("workers", "N", "2, or 1 on one core"),
            "threads that encode",
            lambda options, number: replace(
                options, workers=_number("workers", number, 1, WORKERS_MAXIMUM)
            ),
        ),
        Option(
            *("read_ahead", "SIZE", "128K"),
            "how far sequential reads run ahead",
            lambda options, size: replace(
                options, read_ahead_bytes=_size("read_ahead", size, 0, 64 << 20)
            ),
        ),
        Option(
            *("allow_other", "", "on for root"),
            "let other users in; modes decide what they may do",
            lambda options, _: replace(options, allow_other=True),
        ),
        Option(
            *("no_allow_other", "", "on for others"),
            "let nobody else in",
            lambda options, _: replace(options, allow_other=False),
        ),
        Option(
            *("lock_memory", "", ""),
            "be fit to carry swap: the daemon stays in memory, and last in line of the OOM killer",
            lambda options, _: replace(options, lock_memory=True),
        ),
        Option(
            *("refine", "TIER", "no"),
            "when nothing was written for a while, pack what is there more densely, as difffs"
            " refine does: to the tier cold or rest",
            lambda options, tier: replace(options, refine=_tier("refine", tier)),
        ),
        Option(
            *("refine_after", "TIME", "10m"),
            "how long nothing must have been written for that",
            lambda options, time: replace(options, refine_after=_seconds("refine_after", time)),
        ),
    )
}
"""By name, in the order in which they are shown."""


def known_options() -> str:
    """Return the options as they are written, for a message: ``ro, recipe=NAME, ...``."""
    return ", ".join(option.form for option in OPTIONS.values())


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
    key, _, value = item.partition("=")
    own = OPTIONS.get(key)
    if own is not None and (bool(value) if own.value else item == key):
        return own.change(options, value)
    match item:
        case "rw":
            return replace(options, read_only=False)
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
    raise UsageError(f"unknown mount option {item!r}: known are {known_options()}")
