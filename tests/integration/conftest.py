"""Fixtures of the tests that mount."""

from collections.abc import Iterator

import pytest

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
