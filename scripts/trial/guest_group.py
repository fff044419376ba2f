"""Several guests that one command starts, as ``difffs run`` has them in one control group."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trial.guest import Guest

_ENDING_SECONDS = 60


class GuestGroup:
    """Guests of one shell, which another command may start; leaving the context ends them."""

    def __init__(
        self,
        guests: Sequence[Guest],
        folder: Path,
        wrapper: Sequence[str] = (),
    ) -> None:
        """`wrapper`: the first words of a command that starts another, which is the shell."""
        self.guests = guests
        self._folder = folder
        self._wrapper = wrapper
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> GuestGroup:
        lines = [
            f"{shlex.join([*one.command(), '--', '-pidfile', str(self._pid_file(one))])} &"
            for one in self.guests
        ]
        shell = ["sh", "-c", "\n".join([*lines, "wait"])]
        for one in self.guests:
            one.socket.unlink(missing_ok=True)
            one.console.unlink(missing_ok=True)
            self._pid_file(one).unlink(missing_ok=True)
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*self._wrapper, *shell],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        for one in self.guests:
            one.process = self.process  # running as long as the group is
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            for process in self.processes():  # in order: the shell, and who waits for it, end then
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            try:
                self.process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        for one in self.guests:
            one.socket.unlink(missing_ok=True)

    @property
    def errors(self) -> Path:
        """What the command and QEMU say."""
        return self._folder / "guests.errors"

    def _pid_file(self, one: Guest) -> Path:
        return self._folder / f"{one.name}.pid"

    def processes(self) -> list[int]:
        """The QEMU processes that have been started and not yet ended."""
        found = []
        for one in self.guests:
            with contextlib.suppress(OSError, ValueError):
                process = int(self._pid_file(one).read_text())
                os.kill(process, 0)
                found.append(process)
        return found
