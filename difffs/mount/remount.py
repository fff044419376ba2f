"""``-o remount``: other flags for a mount that there is, whose daemon goes on."""

import errno
import os
from dataclasses import replace
from pathlib import Path

from difffs import linux
from difffs.errors import EnvironmentProblem, MountProblem, UsageError
from difffs.mount.flags import bits_of, flags_of
from difffs.mount.live import FILE_SYSTEM_TYPE, mount_at, read_statistics
from difffs.mount.options import MountOptions, parse_options
from difffs.mount.table import Mount


def remount(store: Path, mountpoint: Path, options: list[str]) -> None:
    """Change the flags of the mount of ``store`` on ``mountpoint`` as the ``-o`` texts say.

    What they do not name stays. ``UsageError`` for options that need another daemon,
    ``MountProblem`` when there is no such mount or it cannot be changed.
    """
    mount = mount_at(mountpoint)
    if mount is None or mount.kind != FILE_SYSTEM_TYPE:
        raise MountProblem(f"{mountpoint} is not a difffs mount: leave out remount to make it one")
    if mount.source != os.path.realpath(store):
        raise MountProblem(f"{mountpoint} is a mount of {mount.source}, not of {store}")
    try:
        statistics = read_statistics(mount.mountpoint)
    except OSError as error:
        raise MountProblem(
            f"{mountpoint} does not answer ({error.strerror}): difffs umount {mountpoint}, and "
            "mount it anew"
        ) from None
    known = statistics.get("mount_options", {})
    today = replace(
        _options_of(mount, statistics["recipe"], known), domains="domains" in statistics
    )
    wanted = parse_options(options, today)
    _refuse_changes(mountpoint, today, wanted)
    if statistics.get("read_only") and not wanted.read_only:
        raise MountProblem(
            f"{mountpoint} cannot become writable, its store was opened for reading: difffs umount "
            f"{mountpoint}, and mount it without ro"
        )
    bits = bits_of(wanted.kernel_flags) | linux.MS_REMOUNT
    if wanted.read_only:
        bits |= linux.MS_RDONLY
    try:
        linux.mount(mount.source, mount.mountpoint, FILE_SYSTEM_TYPE, bits)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise EnvironmentProblem(f"remounting {mountpoint} needs root") from None
        reason = error.strerror
        if error.errno == errno.EBUSY:
            reason = f"files are open for writing (fuser -vm {mountpoint} lists the users)"
        raise MountProblem(f"{mountpoint} cannot be remounted: {reason}") from None


def _options_of(mount: Mount, recipe: str, known: dict[str, int]) -> MountOptions:
    default = MountOptions()
    return MountOptions(
        read_only="ro" in mount.flags or "ro" in mount.options,
        recipe=recipe,
        buffer_bytes=known.get("buffer", default.buffer_bytes),
        workers=known.get("workers", default.workers),
        read_ahead_bytes=known.get("read_ahead", default.read_ahead_bytes),
        allow_other=bool(known.get("allow_other", "allow_other" in mount.options)),
        lock_memory=bool(known.get("lock_memory", False)),
        kernel_flags=flags_of(mount),
    )


def _refuse_changes(mountpoint: Path, today: MountOptions, wanted: MountOptions) -> None:
    before = {
        "recipe": today.recipe,
        "domains": today.domains,
        **today.changed_by_mounting_anew(),
    }
    after = {
        "recipe": wanted.recipe,
        "domains": wanted.domains,
        **wanted.changed_by_mounting_anew(),
    }
    for name, value in after.items():
        if value != before[name]:
            raise UsageError(
                f"mount option {name}: remount cannot change it (today {before[name]}); difffs "
                f"umount {mountpoint}, and mount it anew"
            )
