"""An independent writer of LiME dumps, for tests."""

import struct


def lime_dump(ranges: list[tuple[int, bytes]], order: str = "<") -> bytes:
    """A LiME dump of (physical address, bytes)."""
    return b"".join(
        struct.pack(order + "IIQQQ", 0x4C694D45, 1, start, start + len(data) - 1, 0) + data
        for start, data in ranges
    )
