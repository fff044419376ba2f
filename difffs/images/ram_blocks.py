"""The blocks of memory that QEMU's migration stream names, and which of them the guest's memory is.

QEMU keeps all memory of a machine in *RAM blocks*: the guest's memory, and beside it video memory,
firmware, option ROMs, tables for the firmware. The stream calls them by name.
"""

import re

from difffs.images.assembly import Assembly, Block

# Names of blocks that belong to a device or to firmware: "0000:00:02.0/vga.vram", "/rom@etc/acpi",
# "pc.bios", "virt.flash0". An object of the command line is "/objects/ID", or only "ID".
_OF_A_DEVICE = re.compile(r"(?!/objects/).*(/|vram|vga|rom\b|bios|flash|\.bar\d)")


def guest_memory(blocks: list[tuple[str, int]]) -> Block:
    """The index of the block that is the guest's memory: the largest, but for those of devices
    (the video memory of a small guest is larger than its own)."""
    return max(range(len(blocks)), key=lambda block: _rank(*blocks[block]))


def _rank(name: str, length: int) -> tuple[bool, int]:
    return not _OF_A_DEVICE.match(name), length


class RamBlocks:
    """The blocks told so far, and how far each was filled."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._numbers: dict[str, Block] = {}
        self._told: list[tuple[str, int]] = []
        self.memory: Block = -1
        """The guest's memory."""
        self.filled: list[int] = []
        """For each block the end of the highest page that was given: nothing behind it was."""

    def tell(self, blocks: list[tuple[str, int]]) -> None:
        """Blocks with their lengths, behind those told before; their names are new ones."""
        first = not self._told
        # Blocks may be told one by one, and be tens of thousands.
        rivals = [] if first else [self.memory]
        rivals += range(len(self._told), len(self._told) + len(blocks))
        for name, _length in blocks:
            self._numbers[name] = len(self._numbers)
        self._told += blocks
        self.filled += [0] * len(blocks)
        self.memory = max(rivals, key=lambda block: _rank(*self._told[block]))
        if first:
            self._assembly.blocks(blocks, self.memory)
        else:
            self._assembly.more_blocks(blocks, self.memory)

    def __len__(self) -> int:
        return len(self._told)

    def find(self, name: str) -> Block | None:
        """The block of that name."""
        return self._numbers.get(name)

    def name(self, block: Block) -> str:
        """What the stream calls it."""
        return self._told[block][0]

    def length(self, block: Block) -> int:
        """Its bytes."""
        return self._told[block][1]

    def give(self, block: Block, end: int) -> None:
        """Pages of the block up to `end` were given."""
        if end > self.filled[block]:
            self.filled[block] = end
