"""The names of codecs and routes are those of the native code, and of every store."""

import re
from pathlib import Path

from difffs.codec import ROUTE_OF_CODEC, Codec, GroupCodec, Route

NATIVE = Path(__file__).parents[1] / "native"


def native_numbers(header: str, prefix: str) -> dict[str, int]:
    """The enumerators of a C header that begin with the prefix."""
    text = (NATIVE / header).read_text()
    return {name: int(value) for name, value in re.findall(rf"\b{prefix}(\w+) = (\d+)", text)}


def test_codecs_have_the_native_numbers() -> None:
    numbers = native_numbers("codec.h", "CODEC_")
    assert numbers.pop("COUNT") == max(GroupCodec) + 1
    of_groups = {
        "MEMBER": GroupCodec.MEMBER,
        "GROUP_ZSTD": GroupCodec.ZSTD,
        "GROUP_LZMA": GroupCodec.LZMA,
        "GROUP_DICTIONARY": GroupCodec.ZSTD_DICTIONARY,
    }
    assert numbers == {**{codec.name: codec.value for codec in Codec}, **of_groups}


def test_codec_numbers_are_never_reused() -> None:
    """They stand in every object record of every store."""
    assert {codec.name: codec.value for codec in Codec} == {
        "NONE": 0,
        "SAME": 1,
        "RAW": 2,
        "ZSTD": 3,
        "LZ4": 4,
        "ZSTD_PREFIX": 5,
        "VCDIFF": 6,
        "ZSTD_DICTIONARY": 7,
        "XBZRLE": 8,
        "LZ4_PREFIX": 9,
        "PAGE_BSDIFF": 10,
        "BWT_RANGE": 11,
        "BWT_ZSTD": 12,
        "BWT_PREFIX": 13,
    }
    assert {codec.name: codec.value for codec in GroupCodec} == {
        "MEMBER": 14,
        "ZSTD": 15,
        "LZMA": 16,
        "ZSTD_DICTIONARY": 17,
    }


def test_routes_have_the_native_numbers() -> None:
    numbers = native_numbers("router.h", "ROUTE_")
    del numbers["COUNT"], numbers["UNDECIDED"]
    assert numbers == {route.name: route.value for route in Route}


def test_every_codec_of_a_payload_has_a_route() -> None:
    assert set(ROUTE_OF_CODEC) == set(Codec) - {Codec.NONE} | {GroupCodec.MEMBER}


def test_patches_are_what_takes_the_patch_route() -> None:
    patches = {codec for codec, route in ROUTE_OF_CODEC.items() if route is Route.PATCH}
    assert patches == {codec for codec in Codec if codec.is_patch}
