"""An independent writer of compressed AVML dumps, for tests."""

import struct

import cramjam


def avml_dump(ranges: list[tuple[int, bytes]]) -> bytes:
    """A compressed AVML dump, version 2, of the same."""
    out = bytearray()
    for start, data in ranges:
        out += struct.pack("<IIQQQ", 0x4C4D5641, 2, start, start + len(data) - 1, 0)
        stream = bytes(cramjam.snappy.compress(data))
        out += stream + struct.pack("<Q", len(stream))
    return bytes(out)
