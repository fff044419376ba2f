"""Which block of a migration stream is the guest's memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difffs.images.ram_blocks import RamBlocks, guest_memory
from tests.images.reading import SilentAssembly

NAMES = ["pc.ram", "/objects/memory", "0000:00:02.0/vga.vram", "pc.bios", "/rom@etc/acpi", "ram-1"]


@given(st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3)), min_size=1)))
def test_the_choice_is_that_among_all_blocks(told: list[list[tuple[str, int]]]) -> None:
    blocks = RamBlocks(SilentAssembly())
    so_far: list[tuple[str, int]] = []
    for some in told:
        blocks.tell(some)
        so_far += some
        assert blocks.memory == guest_memory(so_far)


@pytest.mark.timeout(60)
def test_tens_of_thousands_of_blocks_told_one_by_one() -> None:
    """It took a thousand seconds, for a file of 3 MB."""
    blocks = RamBlocks(SilentAssembly())
    for number in range(65_536):
        blocks.tell([(f"block {number}", 4096)])
    assert blocks.memory == 0
