"""The first page of a skeleton, which says where the image's description (JSON) lies."""

import struct

from difffs.errors import CorruptStore, FormatTooNew
from difffs.page import PAGE_SIZE

_HEAD = struct.Struct("<8sII")  # magic, length and first page of the text; 0: behind this head
_MAGIC = b"difffsI1"
_LONGEST = 16 << 20

ROOM = PAGE_SIZE - _HEAD.size
"""Bytes of text that the first page has room for."""


def pack_head(text: bytes, page: int) -> bytes:
    """The first page: with the text itself where there is room, else with its first page."""
    inside = text if not page else b""
    return (_HEAD.pack(_MAGIC, len(text), page) + inside).ljust(PAGE_SIZE, b"\0")


def unpack_head(first: memoryview) -> tuple[int, int]:
    """(length, offset) of the text in the skeleton. CorruptStore when this is no such page,
    FormatTooNew when it is a later difffs'."""
    magic, length, page = _HEAD.unpack_from(first)
    if magic[:7] == _MAGIC[:7] and magic != _MAGIC:
        raise FormatTooNew("the image was stored by a newer difffs: use that")
    if magic != _MAGIC or length > (_LONGEST if page else ROOM):
        raise CorruptStore("the image's head is damaged: run `difffs check`")
    return length, page * PAGE_SIZE if page else _HEAD.size
