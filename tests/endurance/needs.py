"""What the suites need of a machine."""

import os
import shutil

import pytest

from tests.integration import harness


def obstacle() -> str | None:
    """Say why no suite can run here, or None."""
    if os.geteuid() != 0:
        return "not root: the mounts of killed daemons cannot be taken away"
    if shutil.which("gcc") is None:
        return "no gcc, which builds the interposer"
    return harness.obstacle()


MARKS = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=obstacle() or "everything is here"),
]
"""Of all tests that run a part of a suite."""
