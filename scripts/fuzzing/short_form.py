"""A short form of small images, in which pages and padding take six bytes each.

Of an image that a reader is tried with, nearly all bytes are pages and zeros, which it looks at in
one way only: mutations of them are wasted. So what is mutated, and kept, is a form in which the few
bytes that say something stay as they are, and long stretches are written as

    MARK (3 bytes), kind (1), length (2, big endian)

Kinds below 128 are bytes of a page that does not compress; others repeat the 1 to 128 bytes before.
Every string of bytes is the short form of something.
"""

import random
import re

MARK = b"\xf5\xfa\xf9"
LONGEST = 32 << 10
"""Bytes of an image: enough for the headers, bitmaps and some pages of nearly each format."""

PAGES = tuple(random.Random(seed).randbytes(4096) for seed in range(4))
"""Contents that do not compress, of the kinds 0, 1, 2, 3."""

_REPEATED = re.compile(rb"(.{1,32}?)\1{7,}", re.DOTALL)


def expand(short: bytes, longest: int = LONGEST) -> bytes:
    """The image: `longest` bytes at most, what would be behind them is cut off."""
    first, *others = short.split(MARK)
    if not others:
        return short[:longest]
    out = bytearray(first)
    for each in others:
        if len(each) < 3:
            out += each
            continue
        length = each[1] << 8 | each[2]
        if each[0] < 128:
            page = PAGES[each[0] % len(PAGES)]
            out += page[:length]
        elif out:
            unit = bytes(out[127 - each[0] :])
            out += (unit * (length // len(unit) + 1))[:length]
        else:
            out += bytes(length)
        out += each[3:]
        if len(out) > longest:
            break
    return bytes(out[:longest])


def shorten(image: bytes) -> bytes:
    """A short form of an image that does not have MARK in it."""
    for kind, page in enumerate(PAGES):
        image = image.replace(page, MARK + bytes([kind, 0x10, 0x00]))

    def repeated(found: "re.Match[bytes]") -> bytes:
        unit = found[1]
        left = len(found[0]) - len(unit)
        out = bytearray(unit)
        while left:
            length = min(left, 0xFFFF // len(unit) * len(unit))
            out += MARK + bytes([127 + len(unit)]) + length.to_bytes(2, "big")
            left -= length
        return bytes(out)

    # Not across a mark: what it stands for would be repeated then.
    parts = re.split(rb"(%s.{3})" % re.escape(MARK), image, flags=re.DOTALL)
    return b"".join(
        part if index % 2 else _REPEATED.sub(repeated, part) for index, part in enumerate(parts)
    )
