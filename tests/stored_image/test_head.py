"""The description of a stored image: what it cannot be is told when the image is opened."""

import json
from typing import Any

import pytest

from difffs.errors import CorruptStore, FormatTooNew
from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.stored_image.head import ROOM, description, pack_head, unpack_head
from difffs.stored_image.reading import volume_reader
from tests.stores import OpenStore, scratch

LAYOUT = {"size": 4096, "rows": 1, "extents": [[1, 16]]}
PACKED = {
    "compression": "gzip",
    "start": 100,
    "replaced": [[28, "01000000"]],
    "like": "1f8b08",
    "digest": "1" * 32,
    "size": 900,
}
RIGHT: dict[str, Any] = {
    "version": 1,
    "digest": "0" * 32,
    "details": {"format": "lime"},
    "notes": ["a note"],
    "blocks": [{"name": "memory", "length": 4096, "volume": "memory", "offset": 0}],
    "memory": 0,
    "layout": LAYOUT,
    "container": None,
    "packed": None,
}


def test_right_ones() -> None:
    for changed in ({}, {"container": LAYOUT}, {"packed": PACKED}, {"later": 1}):
        text = json.dumps(RIGHT | changed).encode()
        assert description(text) == RIGHT | changed


@pytest.mark.parametrize("name", sorted(RIGHT.keys() - {"version"}))
def test_what_is_missing_or_something_else(name: str) -> None:
    values: list[Any] = [17.5, True, [[]], {"a": []}, "x", -1, 1 << 63]
    for value in values:
        wrong = RIGHT | {name: value}
        if name == "digest" and value == "x":
            continue
        if name == "details" and isinstance(value, dict):
            continue
        with pytest.raises(CorruptStore, match="damaged"):
            description(json.dumps(wrong).encode())
    without = {key: value for key, value in RIGHT.items() if key != name}
    with pytest.raises(CorruptStore, match="damaged"):
        description(json.dumps(without).encode())


@pytest.mark.parametrize(
    "changed",
    [
        {"layout": LAYOUT | {"size": -1}},
        {"layout": LAYOUT | {"rows": 1e9}},
        {"layout": LAYOUT | {"extents": [[1]]}},
        {"layout": LAYOUT | {"extents": [[1, "2"]]}},
        {"container": {"size": 1}},
        {"memory": 1},
        {"blocks": []},
        {"blocks": [RIGHT["blocks"][0] | {"offset": -4096}]},
        {"blocks": [RIGHT["blocks"][0] | {"length": MAXIMUM_VOLUME_SIZE + 1}]},
        {"blocks": [RIGHT["blocks"][0] | {"volume": "disk"}]},
        {"packed": PACKED | {"start": 1 << 40}},
        {"packed": PACKED | {"replaced": [[98, "01000000"]]}},
        {"packed": PACKED | {"replaced": [[28, "0x"]]}},
        {"packed": PACKED | {"replaced": [28]}},
        {"packed": PACKED | {"like": "00" * 5000}},
        {"packed": {"compression": "gzip"}},
        {"notes": [1]},
    ],
)
def test_what_cannot_be(changed: dict[str, Any]) -> None:
    with pytest.raises(CorruptStore, match="damaged"):
        description(json.dumps(RIGHT | changed).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"1" * 5000])
def test_what_is_no_description(text: bytes) -> None:
    with pytest.raises(CorruptStore, match="damaged"):
        description(text)


def test_the_first_page() -> None:
    assert unpack_head(memoryview(pack_head(b"text", 0))) == (4, 16)
    assert unpack_head(memoryview(pack_head(bytes(ROOM + 1), 7))) == (ROOM + 1, 7 * PAGE_SIZE)
    too_long = bytearray(pack_head(b"text", 0))
    too_long[8:12] = (ROOM + 1).to_bytes(4, "little")
    with pytest.raises(CorruptStore):
        unpack_head(memoryview(too_long))
    with pytest.raises(FormatTooNew):
        unpack_head(memoryview(b"difffsI2".ljust(PAGE_SIZE, b"\0")))
    with pytest.raises(CorruptStore):
        unpack_head(memoryview(bytes(PAGE_SIZE)))


def test_places_that_no_volume_has() -> None:
    with scratch() as folder:
        opened = OpenStore(folder / "store")
        read = volume_reader(opened.store)
        for offset in (MAXIMUM_VOLUME_SIZE - 5, 1 << 63, (1 << 64) - 1):
            with pytest.raises(CorruptStore, match="no volume has"):
                read(2, offset, memoryview(bytearray(10)))
        opened.close()
