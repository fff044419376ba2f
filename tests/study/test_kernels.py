"""The study's own kernels: frames of many blocks at once. Transforms are tested in tests/codec."""

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs._kernels import Context
from difffs.codec import Codec
from difffs.study import _kernels
from tests.kernels import kernel_oracle as oracle
from tests.kernels.strategies import pages
from tests.pages import PAGE, compressible_page, random_page


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
@given(st.lists(st.one_of(pages(), st.binary(max_size=300)), max_size=4))
def test_pieces_of_any_length_come_back(pieces: list[bytes]) -> None:
    coder = _kernels.FrameCoder(1)
    for piece in pieces:
        frame = coder.encode(piece)
        assert coder.decode(frame, len(piece)) == piece
        if piece:
            assert frame == _kernels.zstd_encode(piece, len(piece), 1)[0]


def test_malformed_pieces_are_refused() -> None:
    coder = _kernels.FrameCoder()
    piece = compressible_page(Random(2))[:1000]
    frame = coder.encode(piece)
    for wrong, length in ((b"", 0), (frame[:-1], 1000), (frame[::-1], 1000), (frame, 999)):
        with pytest.raises(ValueError, match="no piece's frame"):
            coder.decode(wrong, length)
    with pytest.raises(ValueError, match="no piece's frame"):
        coder.decode(frame, 1001)
    assert coder.decode(frame, 1000) == piece
