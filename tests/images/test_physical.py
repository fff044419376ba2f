"""Device memory apart from the guest's."""

from hypothesis import given
from hypothesis import strategies as st

from difffs.images.physical import DeviceBlocks, is_device_memory


def test_firmware_below_4_gib_is_no_ram_and_what_lies_above_is() -> None:
    assert is_device_memory(0xFFFC_0000, 1 << 32)
    assert not is_device_memory(1 << 32, (1 << 32) + 4096)
    assert not is_device_memory(0, 0xE000_0000)


@given(
    st.lists(st.integers(0, 60), min_size=0, max_size=8, unique=True),
    st.integers(0, 70),
    st.integers(1, 80),
)
def test_each_byte_has_one_place(starts: list[int], address: int, count: int) -> None:
    ranges: list[tuple[int, int]] = []
    for start in sorted(starts):
        if not ranges or start > ranges[-1][1]:
            ranges.append((start, start + 3))
    found = []
    for block, offset, length in DeviceBlocks(ranges).places(address, count):
        found += [(block, offset + at) for at in range(length)]
    expected = []
    for each in range(address, address + count):
        block = next((i for i, (low, high) in enumerate(ranges) if low <= each < high), -1)
        expected.append((0, each) if block < 0 else (block + 1, each - ranges[block][0]))
    assert found == expected
