"""Same-fill test, digest, checksum and sketches against plain Python."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs import _kernels
from difffs.sketch import Sketch
from tests.codec import bwt_oracle
from tests.kernels import kernel_oracle as oracle
from tests.kernels.strategies import pages, seeds, sparse_pages
from tests.pages import PAGE, compressible_page, guest_pages, random_page, similar_page

ZEROS = bytes(PAGE)


@given(pages() | sparse_pages())
@example(ZEROS)
@example(b"\xff" * PAGE)
@example(b"\x01\x02\x03" * 1365 + b"\x01")
def test_same_word_finds_pages_of_one_word(page: bytes) -> None:
    assert _kernels.same_word(page) == oracle.same_word(page)


@pytest.mark.parametrize("place", [0, 7, 8, 2048, 4088, 4095])
def test_one_different_byte_is_no_same_fill(place: int) -> None:
    page = bytearray(b"difffs!!" * 512)
    assert _kernels.same_word(page) == b"difffs!!"
    page[place] ^= 1
    assert _kernels.same_word(page) is None


@settings(max_examples=50)
@given(pages())
def test_digest_is_xxh3_64(page: bytes) -> None:
    assert _kernels.digest(page) == oracle.digest(page)


@given(st.binary(max_size=400) | pages())
@example(b"")
def test_checksum_is_the_low_half_of_xxh3_64(payload: bytes) -> None:
    assert _kernels.checksum(payload) == oracle.checksum(payload)


@settings(max_examples=60, deadline=None)
@given(pages())
@example(ZEROS)
def test_min_hash_is_bit_for_bit_the_documented_one(page: bytes) -> None:
    assert _kernels.sketch(Sketch.MIN_HASH, page) == oracle.min_hash(page)


def test_min_hash_of_a_guests_pages() -> None:
    for page in guest_pages(Random(5), 60):
        assert _kernels.sketch(Sketch.MIN_HASH, page) == oracle.min_hash(page)


@settings(max_examples=50)
@given(pages())
def test_fixed_blocks_are_two_hashes(page: bytes) -> None:
    assert _kernels.sketch(Sketch.FIXED_BLOCKS, page) == oracle.fixed_blocks(page)


@settings(max_examples=20, deadline=None)
@given(pages())
def test_transformed_blocks_are_two_hashes_of_the_transformed_page(page: bytes) -> None:
    ranks = bwt_oracle.move_to_front(bwt_oracle.bwt(page)[0])
    assert _kernels.sketch(Sketch.TRANSFORMED_BLOCKS, page) == oracle.fixed_blocks(ranks)


@given(pages())
@settings(max_examples=20)
def test_no_sketch_has_no_features(page: bytes) -> None:
    assert _kernels.sketch(Sketch.NONE, page) == ()
    assert _kernels.sketch(77, page) == ()


@given(st.binary(min_size=8, max_size=8))
@settings(max_examples=20)
def test_a_same_filled_page_says_nothing(word: bytes) -> None:
    assert _kernels.sketch(Sketch.MIN_HASH, word * 512) == ()


def test_a_page_with_little_content_has_fewer_features() -> None:
    page = bytearray(PAGE)
    page[800:808] = b"one word"
    features = _kernels.sketch(Sketch.MIN_HASH, page)  # the four windows that see the word
    assert 1 <= len(features) <= 4
    assert features == oracle.min_hash(bytes(page))


@settings(max_examples=30)
@given(seeds)
def test_similar_pages_share_features_and_strangers_do_not(seed: int) -> None:
    random = Random(seed)
    page = compressible_page(random)
    features = set(_kernels.sketch(Sketch.MIN_HASH, page))
    assert features & set(_kernels.sketch(Sketch.MIN_HASH, similar_page(page, random, 2)))
    assert not features & set(_kernels.sketch(Sketch.MIN_HASH, random_page(random)))


def test_moving_content_by_whole_words_keeps_most_features() -> None:
    page = compressible_page(Random(3))
    moved = page[24:] + page[:24]
    shared = set(_kernels.sketch(Sketch.MIN_HASH, page)) & set(
        _kernels.sketch(Sketch.MIN_HASH, moved)
    )
    assert len(shared) >= 3


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([0, 1, 8, 60, 300]), st.integers(0, PAGE - 1))
@example(0, 0, 0)
def test_the_run_around_a_shared_feature(seed: int, words: int, shift: int) -> None:
    random = Random(seed)
    page = compressible_page(random)
    base = similar_page(page, random, words)
    base = base[shift:] + base[:shift]
    assert _kernels.common_run(page, base) == oracle.common_run(page, base)


def test_the_run_around_a_shared_feature_of_a_guests_pages() -> None:
    memory = guest_pages(Random(5), 40)
    runs = [(_kernels.common_run(a, b), oracle.common_run(a, b)) for a in memory for b in memory]
    assert [run for run, _expected in runs] == [expected for _run, expected in runs]
    assert {run for run, _expected in runs} > {0, PAGE}


def test_pages_without_a_feature_in_common_have_no_run() -> None:
    """However long what else they have in common is."""
    random = Random(4)
    assert _kernels.common_run(random_page(random), random_page(random)) == 0
    assert _kernels.common_run(ZEROS, ZEROS) == 0
    page = compressible_page(random)
    assert _kernels.common_run(page, page) == PAGE


@pytest.mark.parametrize("size", [0, 1, 4095, 4097, 8192])
def test_a_page_has_4096_bytes(size: int) -> None:
    wrong = bytes(size)
    context = _kernels.Context()
    for call in (
        lambda: _kernels.same_word(wrong),
        lambda: _kernels.digest(wrong),
        lambda: _kernels.sketch(Sketch.MIN_HASH, wrong),
        lambda: _kernels.common_run(wrong, ZEROS),
        lambda: _kernels.common_run(ZEROS, wrong),
        lambda: context.encode(2, wrong),
        lambda: context.encode(5, ZEROS, wrong),
        lambda: context.decode(5, b"x", wrong),
        lambda: _kernels.vcdiff_encode(ZEROS, wrong),
    ):
        with pytest.raises(ValueError, match="4096 bytes"):
            call()


def test_any_contiguous_buffer_will_do() -> None:
    page = compressible_page(Random(9))
    expected = _kernels.digest(page)
    image = memoryview(b"head" + page + b"tail")
    assert _kernels.digest(bytearray(page)) == expected
    assert _kernels.digest(image[4:-4]) == expected
    with pytest.raises(BufferError, match="contiguous"):
        _kernels.digest(memoryview(page * 2)[::2])
