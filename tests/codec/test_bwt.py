"""The native Burrows-Wheeler transform and move-to-front against their plain readings."""

from array import array
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from difffs.study import _kernels
from tests.codec import bwt_oracle as oracle
from tests.kernels.strategies import pages

PAGE = 4096
GROUP = 16 * PAGE

KNOWN = [
    # with the end mark as $: annb$aa, ipssm$pissii, ard$rcaaaabb
    pytest.param(b"banana", b"annbaa", 4, id="banana"),
    pytest.param(b"mississippi", b"ipssmpissii", 5, id="mississippi"),
    pytest.param(b"abracadabra", b"ardrcaaaabb", 3, id="abracadabra"),
    pytest.param(b"a", b"a", 1, id="one byte"),
    pytest.param(b"aaaa", b"aaaa", 4, id="all equal"),
    pytest.param(b"abcd", b"dabc", 1, id="ascending"),
    pytest.param(b"dcba", b"abcd", 4, id="descending"),
]


def transform(block: bytes) -> tuple[bytes, int]:
    """The plain transform of one block, without move-to-front, and its row."""
    ranks, rows = _kernels.transform(block, len(block))
    return oracle.inverse_move_to_front(ranks), rows[0]


@pytest.mark.parametrize(("block", "transformed", "mark"), KNOWN)
def test_known_transforms(block: bytes, transformed: bytes, mark: int) -> None:
    assert oracle.bwt(block) == (transformed, mark - 1)
    assert transform(block) == (transformed, mark - 1)


def test_known_ranks() -> None:
    """Bananas to the front, as textbooks have it over a list of 26 letters."""
    letters = bytes(byte - ord("a") for byte in b"bananaaa")
    assert oracle.move_to_front(letters) == bytes([1, 1, 13, 1, 1, 1, 0, 0])
    assert oracle.move_to_front(b"\xff\xff\x00\x00\xff") == bytes([255, 0, 1, 0, 1])


def assert_exact(block: bytes) -> None:
    """The transform is the oracle's, and both inverses give the block back."""
    expected, row = oracle.bwt(block)
    ranks, rows = _kernels.transform(block, len(block))
    assert (ranks, list(rows)) == (oracle.move_to_front(expected), [row])
    assert _kernels.inverse(ranks, rows, len(block)) == block
    assert oracle.inverse_bwt(expected, row) == block


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300))
@example(b"\x00")
@example(b"\xff" * 256 + b"\x00")
def test_short_blocks(block: bytes) -> None:
    assert_exact(block)


@settings(deadline=None)
@given(st.sampled_from([b"ab", b"abc", b"\x00\xff"]), st.integers(1, 400), st.integers(0, 2**32))
def test_blocks_of_few_values(values: bytes, length: int, seed: int) -> None:
    assert_exact(bytes(Random(seed).choices(values, k=length)))


@settings(deadline=None, max_examples=25)
@given(pages())
def test_pages(page: bytes) -> None:
    assert_exact(page)


def fibonacci_word(length: int) -> bytes:
    """Repetitive without a period: the worst that many suffix sorts can be given."""
    shorter, longer = b"a", b"ab"
    while len(longer) < length:
        shorter, longer = longer, longer + shorter
    return longer[:length]


ADVERSARIES = {
    "zeros": bytes(GROUP),
    "all equal": b"\xff" * GROUP,
    "two values in turn": b"\x01\x00" * (GROUP // 2),
    "a period of seven": (b"abcdefg" * GROUP)[:GROUP],
    "one repeated page": Random(1).randbytes(PAGE) * 16,
    "zeros and a one": bytes(GROUP - 1) + b"\x01",
    "a one and zeros": b"\x01" + bytes(GROUP - 1),
    "fibonacci": fibonacci_word(GROUP),
    "ascending": bytes(range(256)) * (GROUP // 256),
    "descending": bytes(reversed(range(256))) * (GROUP // 256),
    "random": Random(2).randbytes(GROUP),
    "random bits": bytes(Random(3).choices(b"\x00\x01", k=GROUP)),
}


@pytest.mark.parametrize("length", [PAGE, GROUP, 4095, 1])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_the_inverse_is_exact_on_adversaries(name: str, length: int) -> None:
    block = ADVERSARIES[name][:length]
    ranks, rows = _kernels.transform(block, length)
    assert sorted(oracle.inverse_move_to_front(ranks)) == sorted(block)
    assert _kernels.inverse(ranks, rows, length) == block


@settings(deadline=None)
@given(st.lists(st.binary(min_size=24, max_size=24), max_size=5))
def test_blocks_do_not_touch_each_other(blocks: list[bytes]) -> None:
    ranks, rows = _kernels.transform(b"".join(blocks), 24)
    each = [_kernels.transform(block, 24) for block in blocks]
    assert ranks == b"".join(one for one, _ in each)
    assert list(rows) == [row for _, one in each for row in one]
    assert _kernels.inverse(ranks, rows, 24) == b"".join(blocks)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=40), st.integers(0, 2**32 - 1) | st.integers(0, 45))
@example(b"\x01", 0)
def test_what_is_no_transform_is_judged_as_the_oracle_does(noise: bytes, row: int) -> None:
    block = oracle.inverse_bwt(oracle.inverse_move_to_front(noise), row)
    if block is None:
        with pytest.raises(ValueError, match="no transform"):
            _kernels.inverse(noise, array("I", [row]), len(noise))
    else:
        assert _kernels.inverse(noise, array("I", [row]), len(noise)) == block
        assert oracle.bwt(block) == (oracle.inverse_move_to_front(noise), row)


@pytest.mark.parametrize("block_bytes", [0, 3, 65537])
def test_blocks_of_another_length_are_refused(block_bytes: int) -> None:
    with pytest.raises(ValueError, match="whole number of blocks"):
        _kernels.transform(bytes(65536), block_bytes)
    with pytest.raises(ValueError, match="whole number of blocks"):
        _kernels.inverse(bytes(65536), array("I", [0]), block_bytes)


def test_each_block_has_one_row() -> None:
    with pytest.raises(ValueError, match="1 rows for 2 blocks"):
        _kernels.inverse(bytes(8), array("I", [0]), 4)
