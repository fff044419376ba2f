"""Suspending and resuming, and what each took."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trial.monitor import GuestError
from trial.suspension import PART, load_devices, save_devices

from difffs.errors import EnvironmentProblem, UsageError
from difffs.size import format_size
from suspending.qemu import Memory, RunningQemu

SCHEMA_VERSION = 1
USED = ".used"
"""Behind the name of a state that a guest was resumed from: its memory has gone on since."""


class Clock:
    """Seconds of one step after the other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def step(self, name: str) -> None:
        """Note how long it took since the last step."""
        now = time.monotonic()
        self.seconds[name] = round(now - self._began, 3)
        self._began = now


@dataclass(frozen=True, slots=True)
class Done:
    """A guest that was suspended or resumed."""

    action: str
    state: Path
    state_bytes: int
    memory: list[Memory]
    stored: list[int]
    """Bytes of each of them in its store; empty where that was not asked."""
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """All of it, with stable keys; bytes and seconds."""
        memory: list[dict[str, Any]] = [
            {**asdict(each), "file": str(each.file)} for each in self.memory
        ]
        for each, stored in zip(memory, self.stored, strict=False):
            each["stored"] = stored
        return {
            "schema_version": SCHEMA_VERSION,
            "action": self.action,
            "state": str(self.state),
            "state_bytes": self.state_bytes,
            "memory": memory,
            "seconds": self.seconds,
        }

    def text(self) -> str:
        """For people."""
        size = format_size(sum(each.size for each in self.memory))
        stored = f", {format_size(sum(self.stored))} stored" if self.stored else ""
        steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())
        return (
            f"{self.action}: RAM {size}{stored}, state {format_size(self.state_bytes)}"
            f" in {self.state}; {steps}"
        )


def suspend(socket: Path, state: Path) -> Done:
    """Stop a guest, save its devices, end QEMU, and have all of it on the store's medium.

    When its devices cannot be saved, the guest goes on. ``UsageError``, ``EnvironmentProblem``,
    ``OSError``.
    """
    if state.exists():
        raise UsageError(
            f"{state} is there, the state of a suspended guest: remove it or give another name"
        )
    with RunningQemu(socket) as qemu:
        memory = qemu.memory(shared=True)
        clock = Clock()
        with _going_on_otherwise(qemu, state):
            qemu.monitor.command("stop")
            save_devices(qemu.monitor, state)
            _synchronize(state)
            _synchronize(state.absolute().parent)
        clock.step("save")
        with contextlib.suppress(GuestError):  # it may end before it answers
            qemu.monitor.command("quit")
        qemu.wait_until_ended()
        clock.step("end")
        for each in memory:
            each.synchronize()
        clock.step("write")
        stored = [each.stored() for each in memory]
    return Done("suspend", state, state.stat().st_size, memory, stored, clock.seconds)


@contextlib.contextmanager
def _going_on_otherwise(qemu: RunningQemu, state: Path) -> Iterator[None]:
    """Have the guest go on, and nothing left of its state, when the block fails."""
    was_running = qemu.status() == "running"
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(GuestError):
            qemu.monitor.command("migrate_cancel")
            if was_running:
                qemu.monitor.command("cont")
        for left in (state, state.with_name(state.name + PART)):
            left.unlink(missing_ok=True)
        if isinstance(error, GuestError):
            raise EnvironmentProblem(f"{qemu.socket}: {error} (it goes on)") from None
        raise


def resume(socket: Path, state: Path) -> Done:
    """Have a QEMU that waits for a state go on from it. Once it does, the state has no use any
    more, and another name. ``UsageError``, ``EnvironmentProblem``, ``OSError``.
    """
    expect_not_used(state)
    used = state.with_name(state.name + USED)
    if not state.exists():
        why = (
            f": {used} was resumed from already, and its memory has gone on"
            if used.exists()
            else ""
        )
        raise UsageError(f"no state in {state}{why}: give the file that suspend wrote")
    with RunningQemu(socket) as qemu:
        expect_waiting(qemu)
        memory = qemu.memory(shared=True)
        clock = Clock()
        load(qemu, state)
        state.rename(used)
        qemu.monitor.command("cont")
        clock.step("load")
    return Done("resume", used, used.stat().st_size, memory, [], clock.seconds)


def expect_not_used(state: Path) -> None:
    """``UsageError`` for a state that a guest was resumed from."""
    if state.name.endswith(USED):
        raise UsageError(
            f"{state}: its guest was resumed, and its memory has gone on: suspend it again"
        )


def expect_waiting(qemu: RunningQemu) -> None:
    """``UsageError`` when QEMU waits for no state."""
    status = qemu.status()
    if status != "inmigrate":
        raise UsageError(
            f"{qemu.socket}: this QEMU waits for no state (it is {status}): start it as the"
            " suspended one was, with -incoming defer"
        )


def load(qemu: RunningQemu, state: Path) -> None:
    """Load a state. ``EnvironmentProblem`` when it does not fit."""
    try:
        load_devices(qemu.monitor, state)
    except GuestError as error:
        raise EnvironmentProblem(
            f"{state} cannot be loaded by the QEMU at {qemu.socket} ({error}): it takes the same"
            " machine, size of RAM and version of QEMU as when it was saved; see its stderr"
        ) from None


def _synchronize(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
