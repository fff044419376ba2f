"""The first page of a skeleton, which says where the image's description (JSON) lies."""

import json
import struct
from collections.abc import Callable
from typing import Any

from difffs.errors import CorruptStore, FormatTooNew
from difffs.images.assembly import LIKE_BYTES
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE

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
        raise _damaged()
    return length, page * PAGE_SIZE if page else _HEAD.size


# ---- what the text must be ----------------------------------------------------------------------

_LONGEST_START = 32 << 20
"""Bytes before compressed ones: libvirt's header with the XML."""

_Is = Callable[[Any], bool]


def description(text: bytes) -> dict[str, Any]:
    """The image's description (docs/store-format.md, "Images"). CorruptStore when it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: brackets within brackets
        raise _damaged() from None
    if not _is_description(found):
        raise _damaged()
    description: dict[str, Any] = found
    return description


def _damaged() -> CorruptStore:
    return CorruptStore("the image's head is damaged: run `difffs check`")


def _is_number(value: Any, most: int = (1 << 63) - 1) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_hexadecimal(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return len(bytes.fromhex(value)) * 2 == len(value)
    except ValueError:
        return False


def _has(value: Any, **parts: _Is) -> bool:
    return isinstance(value, dict) and all(
        name in value and right(value[name]) for name, right in parts.items()
    )


def _all(right: _Is) -> _Is:
    return lambda value: isinstance(value, list) and all(map(right, value))


def _or_none(right: _Is) -> _Is:
    return lambda value: value is None or right(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _is_block(value: Any) -> bool:
    return (
        _has(value, name=_is_text, length=_is_number, volume=_is_text, offset=_is_number)
        and value["volume"] in ("memory", "skeleton")
        and value["offset"] + value["length"] <= MAXIMUM_VOLUME_SIZE
    )


def _is_layout(value: Any) -> bool:
    return _has(value, size=_is_number, rows=_is_number, extents=_all(_is_extent))


def _is_extent(value: Any) -> bool:
    return _is_pair(value) and all(map(_is_number, value))


def _is_packed(value: Any) -> bool:
    return _has(
        value,
        compression=_is_text,
        start=lambda start: _is_number(start, _LONGEST_START),
        replaced=_all(
            lambda each: (
                _is_pair(each)
                and _is_number(each[0])
                and _is_hexadecimal(each[1])
                and each[0] + len(each[1]) // 2 <= value["start"]
            )
        ),
        like=lambda like: _is_hexadecimal(like) and len(like) <= 2 * LIKE_BYTES,
        digest=_or_none(_is_text),
        size=_is_number,
    )


def _is_description(value: Any) -> bool:
    return _has(
        value,
        digest=_is_text,
        details=lambda details: isinstance(details, dict),
        notes=_all(_is_text),
        blocks=_all(_is_block),
        memory=_is_number,
        layout=_is_layout,
        container=_or_none(_is_layout),
        packed=_or_none(_is_packed),
    ) and value["memory"] < len(value["blocks"])
