"""A guest's devices to a file and back, through its monitor; its RAM stays in its own file."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

from trial.monitor import GuestError, Monitor

PART = ".part"
"""Behind the name of a state that is being written."""

_RENAMING_SECONDS = 10.0


def save_devices(monitor: Monitor, state: Path) -> None:
    """Write the devices' state of a stopped guest, without RAM that is shared with a file.

    QEMU itself writes the file, with its own rights, for its user only. It is there when it is
    whole. ``GuestError``.
    """
    _ignore_shared(monitor)
    whole = os.path.abspath(state)
    part = whole + PART
    # QEMU does not tell how the command has ended: a disk that is full is seen by the name.
    program = f"umask 077; cat > {shlex.quote(part)} && mv {shlex.quote(part)} {shlex.quote(whole)}"
    monitor.command("migrate", uri=f"exec:{program}")
    await_migration(monitor)
    deadline = time.monotonic() + _RENAMING_SECONDS
    while not os.path.exists(whole):
        if time.monotonic() > deadline:
            raise GuestError(f"QEMU could not write {state}: is there room, and may its user?")
        time.sleep(0.01)


def load_devices(monitor: Monitor, state: Path) -> None:
    """Load such a state into a guest that was started with ``-incoming defer``; it stays stopped
    where it was stopped when it was saved. ``GuestError``."""
    _ignore_shared(monitor)
    monitor.command("migrate-incoming", uri=f"exec:cat {shlex.quote(os.path.abspath(state))}")
    await_migration(monitor)


def await_migration(monitor: Monitor, seconds: float = 60) -> None:
    """Wait until what was begun is done. ``GuestError`` when it failed or takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = monitor.command("query-migrate").get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            raise GuestError(f"could not be saved or loaded: migration {status}")
        time.sleep(0.02)
    raise GuestError(f"was not saved or loaded within {seconds:.0f} s")


def _ignore_shared(monitor: Monitor) -> None:
    capability = {"capability": "x-ignore-shared", "state": True}
    monitor.command("migrate-set-capabilities", capabilities=[capability])
