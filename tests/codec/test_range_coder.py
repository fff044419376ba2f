"""The native range coder against a plain one with exact arithmetic."""

from array import array
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs.study import _kernels
from tests.codec import bwt_oracle
from tests.codec import range_oracle as oracle
from tests.kernels.strategies import pages
from tests.pages import PAGE, guest_pages

seeds = st.integers(0, 2**32 - 1)


def encode(ranks: bytes) -> bytes:
    codes, lengths = _kernels.range_encode(ranks, len(ranks))
    assert list(lengths) == [len(codes)]
    return codes


def decode(code: bytes, count: int) -> bytes:
    return _kernels.range_decode(code, array("I", [len(code)]), count)


def assert_exact(ranks: bytes) -> None:
    code = encode(ranks)
    assert code == oracle.encode(ranks)
    assert decode(code, len(ranks)) == ranks
    assert oracle.decode(code, len(ranks)) == ranks


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=400))
@example(b"\x00")
@example(b"\xff")
@example(bytes(range(256)))
def test_short_blocks(ranks: bytes) -> None:
    assert_exact(ranks)


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 600), st.integers(1, 60))
def test_runs_of_zeros_between_ranks(seed: int, length: int, run: int) -> None:
    random = Random(seed)
    ranks = bytearray()
    while len(ranks) < length:
        ranks += bytes(random.randrange(run))
        ranks += bytes(min(int(random.paretovariate(0.7)), 255) for _ in range(random.randrange(9)))
    assert_exact(bytes(ranks[:length]))


@settings(deadline=None, max_examples=10)
@given(pages())
def test_the_ranks_of_pages(page: bytes) -> None:
    ranks, _rows = _kernels.transform(page, PAGE)
    assert_exact(ranks)


@pytest.mark.parametrize("rank", range(256))
def test_every_rank_alone_and_repeated(rank: int) -> None:
    assert_exact(bytes([rank]))
    assert_exact(bytes([0, rank, rank, 0]) * 5)


@pytest.mark.parametrize(
    "ranks",
    [
        pytest.param(bytes(PAGE), id="zeros"),
        pytest.param(b"\xff" * PAGE, id="the last rank"),
        pytest.param(b"\x00\xff" * (PAGE // 2), id="the first and the last in turn"),
        pytest.param(bytes(PAGE - 1) + b"\xff", id="a surprise at the end"),
        pytest.param((b"\xff" + bytes(99)) * 41, id="surprises"),
        pytest.param(Random(1).randbytes(PAGE), id="random"),
    ],
)
def test_adversaries(ranks: bytes) -> None:
    assert_exact(ranks)


def test_groups_of_pages() -> None:
    group = b"".join(guest_pages(Random(4), 16))
    ranks, _rows = _kernels.transform(group, len(group))
    assert decode(encode(ranks), len(ranks)) == ranks


def test_zeros_are_all_but_free_and_random_bytes_cost_little_more() -> None:
    assert len(encode(bytes(PAGE))) <= 4
    assert len(encode(Random(2).randbytes(PAGE))) < 1.03 * PAGE


def test_a_code_ends_as_early_as_it_can() -> None:
    """Any shorter one belongs to other ranks."""
    random = Random(5)
    for _ in range(50):
        ranks = bytes(random.choices([0, 0, 0, 1, 2, 9, 200], k=random.randint(1, 40)))
        code = encode(ranks)
        for length in range(len(code)):
            cut = code[:length]
            for candidate in (
                cut,
                cut[:-1] + bytes([cut[-1] + 1]) if cut and cut[-1] < 255 else cut,
            ):
                assert oracle.decode(candidate, len(ranks)) != ranks


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(1, 200))
@example(b"", 1)
@example(b"\x00", 1)
@example(b"\xff" * 40, 20)
def test_noise_is_judged_as_the_oracle_does(noise: bytes, count: int) -> None:
    expected = oracle.decode(noise, count)
    if expected is None:
        with pytest.raises(ValueError, match="no block's code"):
            decode(noise, count)
    else:
        assert decode(noise, count) == expected


@settings(deadline=None)
@given(seeds, st.data())
def test_changed_codes_are_judged_as_the_oracle_does(seed: int, data: st.DataObject) -> None:
    random = Random(seed)
    ranks = bytes(random.choices([0, 0, 0, 1, 3, 17, 255], k=random.randint(1, 200)))
    code = bytearray(encode(ranks) or b"\x01")
    code[data.draw(st.integers(0, len(code) - 1))] = data.draw(st.integers(0, 255))
    code += data.draw(st.binary(max_size=3))
    expected = oracle.decode(bytes(code), len(ranks))
    if expected is None:
        with pytest.raises(ValueError, match="no block's code"):
            decode(bytes(code), len(ranks))
    else:
        assert decode(bytes(code), len(ranks)) == expected


def test_blocks_do_not_learn_from_each_other() -> None:
    blocks = [bwt_oracle.move_to_front(text) for text in (b"abcabcab", bytes(8), b"\xff" * 8)]
    codes, lengths = _kernels.range_encode(b"".join(blocks), 8)
    assert codes == b"".join(encode(block) for block in blocks)
    assert list(lengths) == [len(encode(block)) for block in blocks]
    assert _kernels.range_decode(codes, lengths, 8) == b"".join(blocks)
    assert _kernels.range_encode(b"", 8) == (b"", array("I"))
    assert _kernels.range_decode(b"", array("I"), 8) == b""


def test_lengths_must_be_those_of_the_codes() -> None:
    with pytest.raises(ValueError, match="lengths of 3 bytes in all for 2"):
        _kernels.range_decode(b"\x01\x02", array("I", [3]), 4)
    with pytest.raises(ValueError, match="whole number of blocks"):
        _kernels.range_encode(bytes(7), 4)
    with pytest.raises(ValueError, match="whole number of blocks"):
        _kernels.range_decode(b"", array("I"), 0)
