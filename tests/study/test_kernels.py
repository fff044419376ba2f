"""The study's own kernels: frames of many blocks at once. Transforms are tested in tests/codec."""

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs._kernels import Context
from difffs.codec import Codec
from difffs.study import _kernels
from tests.codec.page_pairs import Pair, pairs
from tests.kernels import kernel_oracle as oracle
from tests.kernels.strategies import pages
from tests.pages import PAGE, compressible_page, random_page, similar_page


@settings(deadline=None, max_examples=40)
@given(st.lists(pages(), max_size=4), st.sampled_from([-3, 1, 3, 19]))
def test_frames_are_what_the_store_has(blocks: list[bytes], level: int) -> None:
    frames, lengths = _kernels.zstd_encode(b"".join(blocks), PAGE, level)
    assert len(lengths) == len(blocks)
    assert sum(lengths) == len(frames)
    assert _kernels.zstd_decode(frames, lengths, PAGE) == b"".join(blocks)
    place = 0
    for block, length in zip(blocks, lengths, strict=True):
        frame = frames[place : place + length]
        place += length
        assert oracle.zstd_decode(frame) == block
        assert Context().encode(Codec.ZSTD, block, None, level) in (frame, None)


def test_a_group_is_one_frame() -> None:
    random = Random(1)
    group = b"".join(compressible_page(random) for _ in range(15)) + random_page(random)
    frames, lengths = _kernels.zstd_encode(group, len(group), 1)
    assert list(lengths) == [len(frames)]
    assert _kernels.zstd_decode(frames, lengths, len(group)) == group


def test_malformed_frames_are_refused() -> None:
    frames, lengths = _kernels.zstd_encode(compressible_page(Random(2)) * 2, PAGE, 1)
    for wrong, of_length in (
        (bytes(len(frames)), PAGE),
        (frames[::-1], PAGE),
        (frames, PAGE - 1),
        (frames, PAGE + 1),
    ):
        with pytest.raises(ValueError, match="no block's frame"):
            _kernels.zstd_decode(wrong, lengths, of_length)
    with pytest.raises(ValueError, match="no block's frame"):
        _kernels.zstd_decode(frames, array("I", [len(frames), 0]), PAGE)
    with pytest.raises(ValueError, match="lengths of"):
        _kernels.zstd_decode(frames[:-1], lengths, PAGE)
    with pytest.raises(ValueError, match="whole number of blocks"):
        _kernels.zstd_encode(bytes(PAGE + 1), PAGE, 1)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=5000), max_size=6), st.sampled_from([-3, 1, 19]))
def test_pieces_of_any_length_come_back(pieces: list[bytes], level: int) -> None:
    lengths = array("I", map(len, pieces))
    frames, frame_lengths = _kernels.zstd_encode_pieces(b"".join(pieces), lengths, level)
    assert len(frame_lengths) == len(pieces)
    assert sum(frame_lengths) == len(frames)
    assert _kernels.zstd_decode_pieces(frames, frame_lengths, 5000) == (b"".join(pieces), lengths)
    longest = max(map(len, pieces), default=0)
    if longest:
        with pytest.raises(ValueError, match="no block's frame"):
            _kernels.zstd_decode_pieces(frames, frame_lengths, longest - 1)


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=1, max_size=5000))
def test_a_frame_is_the_same_whatever_is_before_it(piece: bytes) -> None:
    frames, lengths = _kernels.zstd_encode_pieces(
        bytes(300) + piece, array("I", [300, len(piece)]), 1
    )
    assert frames[lengths[0] :] == _kernels.zstd_encode(piece, len(piece), 1)[0]


def test_malformed_pieces_are_refused() -> None:
    piece = compressible_page(Random(2))[:1000]
    frame, lengths = _kernels.zstd_encode_pieces(piece, array("I", [1000]), 1)
    for wrong in (b"", frame[:-1], frame[::-1]):
        with pytest.raises(ValueError, match="no block's frame"):
            _kernels.zstd_decode_pieces(wrong, array("I", [len(wrong)]), 1000)
    with pytest.raises(ValueError, match="no block's frame"):
        _kernels.zstd_decode_pieces(frame, lengths, 999)
    assert _kernels.zstd_decode_pieces(frame, lengths, 1001) == (piece, array("I", [1000]))


PATCH_CODECS = [codec for codec in Codec if codec.is_patch]
OTHER_CODECS = [Codec.RAW, Codec.ZSTD, Codec.LZ4, Codec.BWT_RANGE, Codec.BWT_ZSTD]


@settings(deadline=None, max_examples=60)
@given(st.lists(pairs(), max_size=4), st.sampled_from([*PATCH_CODECS, *OTHER_CODECS]))
def test_many_pages_are_encoded_as_one_after_the_other(chosen: list[Pair], codec: Codec) -> None:
    pages, bases = [page for page, _base in chosen], [base for _page, base in chosen]
    coder, context = _kernels.PageCoder(codec, 3), Context()
    with_bases = b"".join(bases) if codec.is_patch else None
    payloads, lengths = coder.encode(b"".join(pages), with_bases)
    expected = [
        context.encode(codec, page, base if codec.is_patch else None, 3) for page, base in chosen
    ]
    assert list(lengths) == [len(payload or b"") for payload in expected]
    assert payloads == b"".join(payload or b"" for payload in expected)
    if all(lengths):
        assert coder.decode(payloads, lengths, with_bases) == b"".join(pages)
    else:
        with pytest.raises(ValueError, match="no page's payload"):
            coder.decode(payloads, lengths, with_bases)


def test_malformed_payloads_are_refused() -> None:
    base = compressible_page(Random(3))
    page = similar_page(base, Random(4))
    coder = _kernels.PageCoder(Codec.PAGE_BSDIFF)
    payload, lengths = coder.encode(page, base)
    with pytest.raises(ValueError, match="no page's payload"):
        coder.decode(payload[::-1], lengths, base)
    with pytest.raises(ValueError, match="lengths of"):
        coder.decode(payload[:-1], lengths, base)
    with pytest.raises(ValueError, match="bytes of bases"):
        coder.decode(payload, lengths, base + base)
    with pytest.raises(ValueError, match="bytes of bases"):
        coder.encode(page, base[:-1])
    with pytest.raises(ValueError, match="no codec"):
        _kernels.PageCoder(max(Codec) + 1)


def test_memory_grows_with_the_level_and_is_none_where_none_is_needed() -> None:
    base = compressible_page(Random(5))
    page = similar_page(base, Random(6))

    def used(codec: Codec, level: int = 1) -> tuple[int, int]:
        coder = _kernels.PageCoder(codec, level)
        with_base = base if codec.is_patch else None
        payload, lengths = coder.encode(page, with_base)
        assert coder.decode(payload, lengths, with_base) == page
        return coder.encoder_bytes, coder.decoder_bytes

    assert used(Codec.XBZRLE) == used(Codec.RAW) == (0, 0)
    assert used(Codec.ZSTD_PREFIX, 19)[0] > used(Codec.ZSTD_PREFIX, 1)[0] > PAGE
    assert used(Codec.ZSTD_PREFIX, 19)[1] == used(Codec.ZSTD_PREFIX, 1)[1] > PAGE
    for codec in (Codec.LZ4, Codec.LZ4_PREFIX, Codec.VCDIFF):
        assert used(codec)[0] > PAGE
        assert used(codec)[1] == 0
    for codec in (Codec.ZSTD, Codec.PAGE_BSDIFF, Codec.BWT_RANGE, Codec.BWT_ZSTD, Codec.BWT_PREFIX):
        assert min(used(codec)) > PAGE
