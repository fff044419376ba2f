"""Digests of files as images are known by."""

import xxhash

from difffs.images.composed import Readable

_PIECE = 1 << 20


def digest_of(file: Readable) -> str:
    """xxh3-128 of a file, in hexadecimal."""
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_PIECE))
    offset = 0
    while length := file.read_into(offset, buffer):
        digest.update(buffer[:length])
        offset += length
    return digest.hexdigest()
