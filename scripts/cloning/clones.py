"""Clones: each a QEMU of its own that goes on from the one state."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suspending.actions import expect_not_used, expect_waiting, load
from suspending.qemu import Memory, RunningQemu
from trial.guest import QemuGuest

from cloning.process_memory import writes_to
from difffs.errors import DifffsError, UsageError

NUMBER, SOCKET = "{number}", "{qmp}"
"""What stands in a command for a clone's number, and for the socket of its monitor."""

_STARTING_SECONDS = 30.0


@dataclass
class CommandedClone(QemuGuest):
    """A clone that a user's command starts; ``name`` is its number."""

    words: Sequence[str] = ()

    def command(self) -> list[str]:
        """Return the command for this clone."""
        return [
            word.replace(NUMBER, self.name).replace(SOCKET, str(self.socket)) for word in self.words
        ]


def expect_command(words: Sequence[str]) -> None:
    """``UsageError`` for a command that cannot start clones which are told apart."""
    if not any(SOCKET in word for word in words):
        raise UsageError(
            f"the command has no {SOCKET}: give it -qmp unix:{SOCKET},server=on,wait=off"
            f" (run-guest: --qmp {SOCKET}): {shlex.join(words)}"
        )


def expect_suspended(memory: Path, state: Path) -> None:
    """``UsageError`` where there is nothing to be cloned, or its guest still runs."""
    for path in (memory, state):
        if not path.is_file():
            raise UsageError(f"no file {path}: give the RAM and the state of a suspended guest")
    expect_not_used(state)
    if (process := writes_to(memory)) is not None:
        raise UsageError(
            f"{memory} is written by process {process}, and clones would read what it writes:"
            " suspend that guest first"
        )


def go_on(one: QemuGuest, state: Path) -> tuple[int, list[Memory]]:
    """Have a clone that was started go on; return its process and the RAM that it reads.

    ``UsageError``, ``EnvironmentProblem``; ``GuestError`` when its QEMU has ended.
    """
    try:
        with RunningQemu(one.socket, _STARTING_SECONDS, lambda: one.running) as qemu:
            expect_waiting(qemu)
            memory = qemu.memory(shared=False)
            load(qemu, state)
            qemu.monitor.command("cont")
            return qemu.process, memory
    except DifffsError:
        if not one.running:
            raise one.error("ended before it went on") from None
        raise
