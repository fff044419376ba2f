"""A QEMU that somebody else has started, found by its monitor's socket."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from trial.monitor import GuestError, Monitor

from difffs.errors import EnvironmentProblem, UsageError
from difffs.mount.live import read_usage
from difffs.running.memory_files import memory_files

_END_SECONDS = 60.0
_CONNECTING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Memory:
    """A file of a mount that is the RAM of a guest."""

    file: Path
    mountpoint: str
    size: int
    """Bytes of it that are mapped."""

    def synchronize(self) -> None:
        """Have all of it committed to its store. ``OSError``."""
        descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def stored(self) -> int:
        """Return the bytes that it takes in its store, once it is synchronised. ``OSError``."""
        descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return round(read_usage(descriptor).stored)
        finally:
            os.close(descriptor)


class RunningQemu:
    """The connection to it, for the length of a block."""

    def __init__(
        self,
        socket: Path,
        seconds: float = _CONNECTING_SECONDS,
        running: Callable[[], bool] = lambda: True,
    ) -> None:
        """Connect; wait for a QEMU that has just been started for so long, while it is `running`.

        ``UsageError`` where none listens.
        """
        self.socket = socket
        try:
            self.monitor = Monitor(socket, running, seconds)
        except TimeoutError:
            raise UsageError(
                f"{socket}: QEMU does not answer, which it does to one at a time: end the other"
                " connection to its monitor, or give it a second -qmp"
            ) from None
        except (GuestError, OSError) as error:
            raise UsageError(
                f"{socket}: no QEMU answers there ({error}): start it with"
                f" -qmp unix:{socket},server=on,wait=off"
            ) from None
        self.process = self.monitor.process()
        self._end = os.pidfd_open(self.process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.monitor.close()
        os.close(self._end)

    def status(self) -> str:
        """Return what QEMU calls the state it is in: ``running``, ``paused``, ``inmigrate``."""
        return str(self.monitor.command("query-status")["status"])

    def memory(self, *, shared: bool) -> list[Memory]:
        """Return the guest's RAM, all of which must lie in mounts, be mapped shared with the files
        or be not.

        ``UsageError`` where it does not or is not.
        """
        backends = self.monitor.command("query-memdev")
        wrong = [each for each in backends if each["share"] is not shared]
        if wrong and shared:
            raise UsageError(
                f"{self.socket}: RAM is QEMU's own and would be lost: start the guest with"
                " -object memory-backend-file,share=on,... (vm-configs/README.md)"
            )
        if wrong:
            raise UsageError(
                f"{self.socket}: a clone must not write to the RAM of the others: start it with"
                " -object memory-backend-file,share=off,..."
            )
        found = [
            Memory(Path(each.path), each.mountpoint, each.mapped)
            for each in memory_files([self.process])
        ]
        if not backends or sum(each.size for each in found) < sum(
            each["size"] for each in backends
        ):
            raise UsageError(
                f"{self.socket}: not all RAM is in files of difffs mounts that process"
                f" {self.process} maps: give memory-backend-file a mem-path in a mount"
            )
        return found

    def wait_until_ended(self) -> None:
        """Wait for the process to end. ``EnvironmentProblem`` when it stays."""
        if not select.select([self._end], [], [], _END_SECONDS)[0]:
            raise EnvironmentProblem(
                f"QEMU, process {self.process}, has not ended after {_END_SECONDS:.0f} s: end it"
                " yourself; its state is saved"
            )
