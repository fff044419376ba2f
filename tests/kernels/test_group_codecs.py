"""Groups: payloads of several pages, against the libraries' own bindings."""

import lzma
from contextlib import suppress
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs import _kernels
from difffs._kernels import Dictionary, GroupDecoder, GroupEncoder
from difffs.codec import GroupCodec
from tests.pages import guest_memory, random_page

PAGE = 4096
CONTENT = _kernels.train_dictionary(guest_memory(1, 2000), 16 << 10, 3) or b""
DICTIONARY = Dictionary(CONTENT, 16)
CODECS = [GroupCodec.ZSTD, GroupCodec.LZMA, GroupCodec.ZSTD_DICTIONARY]
LZMA_FILTER = {
    "id": lzma.FILTER_LZMA1,
    "preset": 9,
    "dict_size": 1 << 18,
    "lc": 3,
    "lp": 0,
    "pb": 2,
}


def encoder(codec: GroupCodec) -> GroupEncoder:
    return GroupEncoder(codec, 16, DICTIONARY if codec is GroupCodec.ZSTD_DICTIONARY else None)


def by_the_library(codec: GroupCodec, payload: bytes, length: int) -> bytes:
    if codec is GroupCodec.LZMA:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[LZMA_FILTER])
        return decompressor.decompress(payload, length)
    dictionary = (
        zstandard.ZstdCompressionDict(CONTENT) if codec is GroupCodec.ZSTD_DICTIONARY else None
    )
    reader = zstandard.ZstdDecompressor(
        dict_data=dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    return reader.decompress(payload, max_output_size=length)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 16, 63, 64])
def test_round_trip_and_what_the_library_makes_of_it(codec: GroupCodec, count: int) -> None:
    pages = guest_memory(count, count)
    payload = encoder(codec).encode(pages)
    assert payload is not None
    assert len(payload) < len(pages)
    # Made without the other's dictionary, which the decoder knows all the same.
    assert GroupDecoder(DICTIONARY).decode(codec, payload, count) == pages
    assert by_the_library(codec, payload, len(pages)) == pages


@pytest.mark.parametrize("codec", [GroupCodec.ZSTD, GroupCodec.ZSTD_DICTIONARY])
def test_a_payload_is_one_frame_and_nothing_behind_it(codec: GroupCodec) -> None:
    pages = guest_memory(3, 64)  # blocks of 128 KiB: two
    payload = encoder(codec).encode(pages)
    assert payload is not None
    decoder = GroupDecoder(DICTIONARY)
    assert decoder.decode(codec, payload, 64) == pages
    for other in (
        payload + b"\0",
        payload + bytes([0, payload[1], 1, 0, 0]),
        payload[:-1],
        payload[:4],
    ):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decoder.decode(codec, other, 64)


@pytest.mark.parametrize("wanted", [1, 7, 64])
def test_no_more_is_decoded_by_lzma_than_is_wanted(wanted: int) -> None:
    pages = guest_memory(9, 64)
    payload = encoder(GroupCodec.LZMA).encode(pages)
    assert payload is not None
    decoder = GroupDecoder()
    assert decoder.decode(GroupCodec.LZMA, payload, 64, wanted) == pages[: wanted * PAGE]


@pytest.mark.parametrize("codec", CODECS)
def test_what_does_not_become_shorter_has_no_payload(codec: GroupCodec) -> None:
    random = Random(4)
    assert encoder(codec).encode(b"".join(random_page(random) for _ in range(16))) is None


@given(st.sampled_from(CODECS), st.binary(max_size=300), st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_pages_or_an_error(codec: GroupCodec, payload: bytes, count: int) -> None:
    try:
        pages = GroupDecoder(DICTIONARY).decode(codec, payload, count)
    except ValueError:
        return
    assert len(pages) == count * PAGE


@given(st.sampled_from(CODECS), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_changed_payloads_are_pages_or_an_error(codec: GroupCodec, seed: int) -> None:
    random = Random(seed)
    payload = encoder(codec).encode(guest_memory(2, 16))
    assert payload is not None
    changed = bytearray(payload[: random.randint(1, len(payload))])
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    decoder = GroupDecoder(DICTIONARY)
    with suppress(ValueError):
        assert len(decoder.decode(codec, changed, 16)) == 16 * PAGE
    assert decoder.decode(codec, payload, 16) == guest_memory(2, 16)


def test_what_is_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="codec 3 is of no group"):
        GroupEncoder(3)
    with pytest.raises(ValueError, match="dictionary"):
        GroupEncoder(GroupCodec.ZSTD_DICTIONARY)
    with pytest.raises(ValueError, match="dictionary"):
        GroupEncoder(GroupCodec.ZSTD, 3, DICTIONARY)
    for length in (0, 100, 65 * PAGE):
        with pytest.raises(ValueError, match="64 whole pages"):
            encoder(GroupCodec.ZSTD).encode(bytes(length))
    for count, wanted in ((0, 0), (65, 65), (4, 5)):
        with pytest.raises(ValueError, match="64 pages"):
            GroupDecoder().decode(GroupCodec.ZSTD, b"", count, wanted)
    with pytest.raises(ValueError, match="cannot be decoded"):
        GroupDecoder().decode(3, b"", 1)


def test_a_group_that_needs_the_dictionary_is_an_error_without() -> None:
    payload = encoder(GroupCodec.ZSTD_DICTIONARY).encode(guest_memory(6, 16))
    assert payload is not None
    with pytest.raises(ValueError, match="cannot be decoded"):
        GroupDecoder().decode(GroupCodec.ZSTD_DICTIONARY, payload, 16)
