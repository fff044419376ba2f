"""Fixtures of the tests that mount, and of those that swap."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from trial import swap

from tests.integration import harness
from tests.integration.harness import Mounted


@pytest.fixture
def mount() -> Iterator[Mounted]:
    """A new store, mounted; unmounted and checked when the test is over."""
    reason = harness.obstacle()
    if reason is not None:
        pytest.skip(reason)
    with harness.mounted_store() as one:
        yield one


@pytest.fixture
def able_to_swap() -> None:
    """Skip where swapping is not possible."""
    reason = harness.obstacle() or swap.obstacle()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def store_for_swap(able_to_swap: None) -> Iterator[Path]:
    """A place for a store; whatever a test leaves is undone."""
    with harness.folder_in_memory() as folder:
        path = folder / "store"
        try:
            yield path
        finally:
            command = [*harness.DIFFFS, "swapoff", str(path)]
            subprocess.run(command, check=False, capture_output=True)
