"""Kdump files that the installed QEMU writes."""

from pathlib import Path

import pytest

from difffs.images import flattened, kdump
from tests.images.kdump_builder import END
from tests.images.small_guest import DATA, DATA_AT, MEMORY, PausedGuest, obstacle
from tests.images.sparse_assembly import assembled

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
]


def unflattened(data: bytes) -> bytes:
    """What the records make up: what makedumpfile -R would write."""
    out = bytearray()
    at = 4096
    while data[at : at + 16] != END:
        offset = int.from_bytes(data[at : at + 8], "big")
        length = int.from_bytes(data[at + 8 : at + 16], "big")
        out += bytes(max(0, offset + length - len(out)))
        out[offset : offset + length] = data[at + 16 : at + 16 + length]
        at += 16 + length
    return bytes(out)


@pytest.mark.parametrize("options", [(), ("-device", "VGA")], ids=["no graphics", "VGA"])
def test_a_dump(tmp_path: Path, options: tuple[str, ...]) -> None:
    with PausedGuest(tmp_path, *options) as guest:
        dump = guest.dump(paging=False, format="kdump-zlib")
        raw = guest.raw.read_bytes()
    for image, data in ((flattened.FORMAT, dump), (kdump.FORMAT, unflattened(dump))):
        assembly = assembled(image, data)
        assert assembly.file == data
        assert assembly.notes == []
        assert assembly.facts["compression"] == "zlib"
        assert assembly.lengths[0] == MEMORY
        assert assembly.content(DATA_AT, len(DATA)) == DATA
        content = bytearray(assembly.content(0, MEMORY))
        # The processor sees the graphics adapter there, and the firmware's ROM until that has run.
        content[0xA0000:0x100000] = raw[0xA0000:0x100000]
        assert content == raw
        # Headers, and two bitmaps of frames up to the firmware's, below 4 GiB.
        assert assembly.literal_bytes < 280_000
