"""Who does not answer at a monitor's socket, and why."""

import socket
from pathlib import Path

import pytest
from suspending.qemu import RunningQemu

from difffs.errors import UsageError


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="start it with -qmp unix:"):
        RunningQemu(tmp_path / "none", 0.1)


def test_somebody_else_is_connected(tmp_path: Path) -> None:
    """QEMU then takes the connection and does not greet."""
    path = tmp_path / "qmp"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(UsageError, match="end the other connection"):
            RunningQemu(path, 0.1)
