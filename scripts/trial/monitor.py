"""QEMU's monitor: a QMP connection to a process that somebody started."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of who listens, as the kernel noted them."""


_COMMAND_SECONDS = 60.0


class GuestError(Exception):
    """A guest did not do what it was asked for; the text ends with its last console lines, where
    its console is known."""


class Monitor:
    """A QMP connection: one command at a time, events skipped."""

    def __init__(self, path: Path, running: Callable[[], bool], seconds: float = 30) -> None:
        """Connect; wait for QEMU to listen for so long, as long as it is `running`, and to greet.

        ``GuestError`` when it does not listen, TimeoutError when it does not greet: it talks to one
        at a time.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(seconds)
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self._socket.close()
                if not running() or time.monotonic() > deadline:
                    raise GuestError(f"no QMP monitor at {path}") from None
                time.sleep(0.05)
        self._stream = self._socket.makefile("rwb")
        try:
            self._stream.readline()  # the greeting
        except TimeoutError:
            self.close()
            raise
        self._socket.settimeout(_COMMAND_SECONDS)
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """Return what a command of QMP returns. ``GuestError`` with what QEMU says of it."""
        request = {"execute": name} | ({"arguments": arguments} if arguments else {})
        try:
            self._stream.write(json.dumps(request).encode() + b"\n")
            self._stream.flush()
            while line := self._stream.readline():
                answer = json.loads(line)
                if "error" in answer:
                    raise GuestError(f"QMP {name}: {answer['error'].get('desc')}")
                if "return" in answer:
                    return answer["return"] or {}
        except OSError as error:
            raise GuestError(f"QMP {name}: {error.strerror or error}") from None
        raise GuestError(f"QMP {name}: the connection ended")

    def process(self) -> int:
        """Return the number of the process that listens."""
        found = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process: int = _CREDENTIALS.unpack(found)[0]
        return process

    def close(self) -> None:
        """End the connection, not QEMU."""
        with contextlib.suppress(OSError):
            self._stream.close()
        self._socket.close()
