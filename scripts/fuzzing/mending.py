"""Checksums put right, without which a mutated image is refused before anything looks at it."""

import struct

import cramjam

_HEADER = struct.Struct("<4sIQQ8s")
_IDENTIFIER_BYTES = 10
_FRAME_MEMORY = 64 << 10


def mended_avml(image: bytes) -> bytes:
    """A compressed AVML dump whose frames have the checksums, and whose blocks the lengths, of what
    is in them; as far as it is one."""
    out = bytearray(image)
    at = 0
    while len(out) >= at + _HEADER.size + _IDENTIFIER_BYTES and out[at : at + 4] == b"AVML":
        _magic, _version, start, last, _zeros = _HEADER.unpack_from(out, at)
        begin = at + _HEADER.size
        at = begin + _IDENTIFIER_BYTES
        left = last + 1 - start
        while left > 0 and len(out) > at + 8:
            length = int.from_bytes(out[at + 1 : at + 4], "little")
            body = bytes(out[at + 8 : at + 4 + length])
            if out[at] > 1 or (not out[at] and _told(body) > _FRAME_MEMORY):
                return bytes(out)  # no frame, or so much that it is not made here
            try:
                plain = body if out[at] == 1 else bytes(cramjam.snappy.decompress_raw(body))
            except cramjam.DecompressionError:
                return bytes(out)
            if not plain:
                return bytes(out)
            framed = bytes(cramjam.snappy.compress(plain[:_FRAME_MEMORY]))
            out[at + 4 : at + 8] = framed[14:18]
            at += 4 + length
            left -= len(plain)
        if len(out) < at + 8:
            break
        struct.pack_into("<Q", out, at, at - begin)
        at += 8
    return bytes(out)


def _told(body: bytes) -> int:
    """The length that snappy's data say that they have: seven bits in each byte, lowest first."""
    length = 0
    for index, byte in enumerate(body[:5]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            break
    return length
