"""ELF cores that the installed QEMU writes."""

from pathlib import Path

import pytest

from difffs.images import elf
from tests.images.small_guest import DATA, DATA_AT, MEMORY, PausedGuest, obstacle
from tests.images.sparse_assembly import assembled

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
]

VGA = ("-device", "VGA")


@pytest.mark.parametrize("paging", [False, True])
@pytest.mark.parametrize("options", [(), VGA], ids=["no graphics", "VGA"])
def test_a_dump(tmp_path: Path, paging: bool, options: tuple[str, ...]) -> None:
    with PausedGuest(tmp_path, *options) as guest:
        core = guest.dump(paging=paging)
        raw = guest.raw.read_bytes()
    assembly = assembled(elf.FORMAT, core)
    assert assembly.file == core
    assert assembly.notes == []
    assert assembly.facts["creator"] == "QEMU"
    assert assembly.content(DATA_AT, len(DATA)) == DATA
    content = bytearray(assembly.content(0, MEMORY))
    # The processor sees the graphics adapter there, and the firmware's ROM until that has run.
    content[0xA0000:0x100000] = raw[0xA0000:0x100000]
    assert content == raw
    assert assembly.literal_bytes < 4096


def test_a_part_of_the_memory(tmp_path: Path) -> None:
    with PausedGuest(tmp_path) as guest:
        core = guest.dump(paging=False, begin=DATA_AT, length=1 << 20)
    assembly = assembled(elf.FORMAT, core)
    assert assembly.file == core
    assert assembly.lengths == [DATA_AT + (1 << 20)]
    assert assembly.content(DATA_AT, 1 << 20) == DATA[: 1 << 20]
