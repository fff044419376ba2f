"""Opening a store for a command; who has it mounted is told how to go on."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from difffs.errors import StoreBusy
from difffs.mount.live import mountpoints_of
from difffs.store import Store
from difffs.store.upgrade import Progress, Upgrade, upgrade_store

if TYPE_CHECKING:
    from difffs.store.repairing import Repaired

Opened = TypeVar("Opened")

Instead = Callable[[str], str]
"""A command that does the same in a mount, given the mount point."""


def open_to_read(path: Path, purpose: str, instead: Instead | None = None) -> Store:
    """Open the store read-only.

    When it is mounted, ``StoreBusy`` says where and how to go on: what ``instead`` makes of the
    mount point, or unmounting it first in order to ``purpose``.
    """
    return _opened(lambda: Store.open(path, read_only=True), path, purpose, instead)


def open_to_change(path: Path, purpose: str, instead: Instead) -> Store:
    """Open the store for writing; ``StoreBusy`` as for :func:`open_to_read`."""
    return _opened(lambda: Store.open(path), path, purpose, instead)


def open_or_create(
    path: Path,
    recipe: str | None,
    purpose: str,
    instead: Instead,
    *,
    change_recipe: bool,
    domains: bool,
) -> Store:
    """Open the store for writing, or make it; ``StoreBusy`` as for :func:`open_to_read`."""
    return _opened(
        lambda: Store.open_or_create(path, recipe, change_recipe=change_recipe, domains=domains),
        path,
        purpose,
        instead,
    )


def upgrade(path: Path, progress: Progress) -> Upgrade:
    """Give the store the current format; ``StoreBusy`` as for :func:`open_to_read`."""
    return _opened(lambda: upgrade_store(path, progress), path, "upgrade it", None)


def repair(path: Path, into: Path | None, progress: Progress) -> "Repaired":
    """Save what can be saved of the store; ``StoreBusy`` as for :func:`open_to_read`."""
    from difffs.store.repairing import repair_store

    return _opened(lambda: repair_store(path, into, progress), path, "repair it", None)


def _opened(
    opening: Callable[[], Opened], path: Path, purpose: str, instead: Instead | None
) -> Opened:
    try:
        return opening()
    except StoreBusy:
        mountpoints = mountpoints_of(path)
        if not mountpoints:
            raise
        mountpoint = mountpoints[0]
        remedy = f"difffs umount {mountpoint} to {purpose}"
        if instead is not None:
            remedy = f"{instead(mountpoint)}, or {remedy}"
        raise StoreBusy(f"{path} is mounted on {mountpoint}: {remedy}") from None
