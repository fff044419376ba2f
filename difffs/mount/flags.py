"""The flags that every mount has, whatever its file system."""

import os
from collections.abc import Iterable

from difffs import linux
from difffs.errors import EnvironmentProblem, MountProblem
from difffs.mount.live import FILE_SYSTEM_TYPE
from difffs.mount.table import Mount

FLAGS = {
    "nosuid": linux.MS_NOSUID,
    "nodev": linux.MS_NODEV,
    "noexec": linux.MS_NOEXEC,
    "nosymfollow": linux.MS_NOSYMFOLLOW,
    "noatime": linux.MS_NOATIME,
    "nodiratime": linux.MS_NODIRATIME,
    "strictatime": linux.MS_STRICTATIME,
    "sync": linux.MS_SYNCHRONOUS,
    "dirsync": linux.MS_DIRSYNC,
}
"""Those that differ from what a mount has without options."""

_OF_FILE_SYSTEM = {"sync", "dirsync"}
_LIBFUSE_KNOWS = {"nosuid", "nodev", "noexec", *_OF_FILE_SYSTEM}

# Option: what it sets, and what it takes back. As in mount(8), the last one counts.
_OPTIONS: dict[str, tuple[set[str], set[str]]] = {
    **{flag: ({flag}, set()) for flag in FLAGS},
    "suid": (set(), {"nosuid"}),
    "dev": (set(), {"nodev"}),
    "exec": (set(), {"noexec"}),
    "symfollow": (set(), {"nosymfollow"}),
    "atime": (set(), {"noatime"}),
    "diratime": (set(), {"nodiratime"}),
    "noatime": ({"noatime"}, {"strictatime"}),
    "relatime": (set(), {"noatime", "strictatime"}),
    "norelatime": (set(), set()),
    "strictatime": ({"strictatime"}, {"noatime"}),
    "nostrictatime": (set(), {"strictatime"}),
    "async": (set(), {"sync"}),
    "user": ({"nosuid", "nodev", "noexec"}, set()),
    "users": ({"nosuid", "nodev", "noexec"}, set()),
    "owner": ({"nosuid", "nodev"}, set()),
    "group": ({"nosuid", "nodev"}, set()),
}


def changed_by(option: str, flags: Iterable[str]) -> tuple[str, ...] | None:
    """Return the flags after one more option; None when it is not about flags."""
    if option not in _OPTIONS:
        return None
    sets, takes_back = _OPTIONS[option]
    return tuple(sorted((set(flags) | sets) - takes_back))


def for_libfuse(flags: Iterable[str]) -> list[str]:
    """Return the flags that libfuse passes on when it mounts."""
    return [flag for flag in flags if flag in _LIBFUSE_KNOWS]


def flags_of(mount: Mount) -> tuple[str, ...]:
    """Return the flags of a mount that there is."""
    present = {*mount.flags, *mount.options}
    found = present & FLAGS.keys()
    if not present & {"noatime", "relatime"}:
        found.add("strictatime")  # which the kernel shows by showing nothing
    return tuple(sorted(found))


def bits_of(flags: Iterable[str]) -> int:
    """Return the flags as mount(2) wants them, with the kind of access times said."""
    bits = 0
    for flag in flags:
        bits |= FLAGS[flag]
    if not bits & (linux.MS_NOATIME | linux.MS_STRICTATIME):
        bits |= linux.MS_RELATIME
    return bits


def apply_to_mountpoint(mount: Mount, flags: Iterable[str]) -> None:
    """Add what libfuse cannot set. ``MountProblem`` when a restriction would not hold.

    libfuse makes every mount nosuid and nodev, which it stays. Access times are a matter of taste:
    without root, who asks gets none but the default.
    """
    wanted = set(flags)
    if wanted <= _LIBFUSE_KNOWS:
        return
    where = mount.mountpoint
    if os.geteuid() != 0:
        if "nosymfollow" in wanted:
            raise EnvironmentProblem(f"{where}: the mount option nosymfollow needs root")
        return
    present = set(flags_of(mount)) - {"noatime", "nodiratime", "strictatime"}
    bits = bits_of((wanted | present) - _OF_FILE_SYSTEM) | linux.MS_REMOUNT | linux.MS_BIND
    if "ro" in mount.flags:
        bits |= linux.MS_RDONLY
    try:
        linux.mount("none", where, FILE_SYSTEM_TYPE, bits)
    except OSError as error:
        raise MountProblem(
            f"{where}: the options {','.join(sorted(wanted))} cannot be set: {error.strerror}"
        ) from None
