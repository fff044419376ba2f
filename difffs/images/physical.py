"""What of an x86 machine's physical addresses is no RAM, though dumps have it.

A dump of all that can be read as memory has the firmware, right below 4 GiB, and the video card's
memory. As part of the guest's memory they would make that of a guest with 256 MiB 4 GiB long. RAM
never lies there: chipsets keep the addresses from 0xF0000000 up to 4 GiB for devices.
"""

from bisect import bisect_right
from collections.abc import Iterator

DEVICES_START, DEVICES_END = 0xF000_0000, 1 << 32

X86 = frozenset({3, 6, 62})
"""The ELF numbers of x86 machines of 32 and 64 bits."""


def is_device_memory(start: int, end: int) -> bool:
    """Whether memory from `start` up to before `end` is a device's or firmware."""
    return start >= DEVICES_START and end <= DEVICES_END


class DeviceBlocks:
    """Blocks of device memory: each range of addresses one of its own, behind the guest's memory,
    which is block 0."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        """`ranges` (start, end) are in order and do not touch; at most some hundred."""
        self._ranges = ranges
        self._starts = [start for start, _end in ranges]

    def blocks(self, length: int) -> list[tuple[str, int]]:
        """All blocks as ``Assembly.blocks`` takes them, `length` being the guest's memory's."""
        devices = [(f"memory@{start:#x}", end - start) for start, end in self._ranges]
        return [("memory", length), *devices]

    def places(self, address: int, count: int) -> Iterator[tuple[int, int, int]]:
        """(block, offset in it, bytes) of each part of `count` bytes from an address on."""
        end = address + count
        while address < end:
            index = bisect_right(self._starts, address)
            start, stop = self._ranges[index - 1] if index else (0, 0)
            if address < stop:
                stop = min(end, stop)
                yield index, address - start, stop - address
            else:
                stop = min(end, self._starts[index]) if index < len(self._starts) else end
                yield 0, address, stop - address
            address = stop
