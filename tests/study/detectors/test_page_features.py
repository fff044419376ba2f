"""The kernels that take features of pages, against their plain Python twins and known numbers."""

from array import array
from collections.abc import Callable
from itertools import islice
from math import gcd
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs._kernels import sketch
from difffs.sketch import Sketch
from difffs.study import _kernels
from difffs.study.detectors.difference_engine import PRODUCT_PLACES
from tests.kernels.strategies import pages
from tests.pages import PAGE, compressible_page, random_page
from tests.study.detectors import detector_oracle as oracle

batches_of_pages = st.lists(pages(), max_size=3)


def of_each(batch: list[bytes], features: Callable[[bytes], list[int]]) -> list[int]:
    return [feature for page in batch for feature in features(page)]


# -------------------------------------------------------------------------------- known numbers


def test_splitmix64_gives_its_published_numbers() -> None:
    assert list(islice(oracle.splitmix64(1234567), 5)) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert oracle.GEAR[:2] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def product(left: int, right: int) -> int:
    """Of polynomials over GF(2), modulo Rabin's."""
    found = 0
    while right:
        if right & 1:
            found ^= left
        left = oracle.remainder(left << 1, oracle.POLYNOMIAL)
        right >>= 1
    return found


def polynomial_gcd(left: int, right: int) -> int:
    while right:
        left, right = right, oracle.remainder(left, right)
    return left


def test_rabins_polynomial_is_irreducible() -> None:
    """Rabin's test: x^(2^63) = x, and x^(2^n) - x has no factor in common for n = 63/3, 63/7."""
    degree = oracle.POLYNOMIAL.bit_length() - 1
    assert degree == 63
    power = 2
    for squarings in range(1, degree + 1):
        power = product(power, power)
        if squarings in (degree // 3, degree // 7):
            assert polynomial_gcd(oracle.POLYNOMIAL, power ^ 2) == 1
    assert power == 2


def test_odess_samples_one_hash_in_128() -> None:
    assert oracle.ODESS_MASK.bit_count() == 7


def test_transforms_are_permutations() -> None:
    """An odd factor has an inverse, so that no two hashes become one."""
    for transforms in (oracle.RABIN_TRANSFORMS, oracle.GEAR_TRANSFORMS):
        assert len(set(transforms)) == oracle.TRANSFORMS
        assert all(gcd(factor, 2) == 1 for factor, _summand in transforms)


# ---------------------------------------------------------------------------------------- twins


@settings(deadline=None, max_examples=50)
@given(batches_of_pages, st.integers(1, 4), st.integers(1, 8), st.randoms())
def test_block_keys(batch: list[bytes], keys: int, blocks: int, random: Random) -> None:
    places = array("I", [random.randint(0, PAGE - 64) for _ in range(keys * blocks)])
    expected = of_each(batch, lambda page: oracle.block_keys(page, places, keys))
    assert list(_kernels.block_keys(b"".join(batch), places, keys)) == expected


@settings(deadline=None, max_examples=20)
@given(batches_of_pages)
def test_block_keys_at_the_products_places_are_its_own(batch: list[bytes]) -> None:
    keys = _kernels.block_keys(b"".join(batch), array("I", PRODUCT_PLACES), 2)
    assert list(keys) == of_each(batch, lambda page: [*sketch(Sketch.FIXED_BLOCKS, page)])


@settings(deadline=None, max_examples=50)
@given(batches_of_pages, st.sampled_from([Sketch.MIN_HASH, Sketch.FIXED_BLOCKS]))
def test_product_sketches(batch: list[bytes], kind: Sketch) -> None:
    def padded(page: bytes) -> list[int]:
        features = sketch(kind, page)
        return [*features, *[0] * (4 - len(features))]

    assert list(_kernels.product_sketches(kind, b"".join(batch))) == of_each(batch, padded)


@settings(deadline=None, max_examples=6)
@given(pages(), st.sampled_from([1, 4, 12]))
def test_ntransform(page: bytes, grouped: int) -> None:
    assert list(_kernels.ntransform_features(page, grouped)) == oracle.ntransform(page, grouped)


@settings(deadline=None, max_examples=6)
@given(pages())
def test_finesse(page: bytes) -> None:
    assert list(_kernels.finesse_features(page)) == oracle.finesse(page)


@settings(deadline=None, max_examples=40)
@given(batches_of_pages, st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_odess(batch: list[bytes], grouped: int) -> None:
    expected = of_each(batch, lambda page: oracle.odess(page, grouped))
    assert list(_kernels.odess_features(b"".join(batch), grouped)) == expected


@settings(deadline=None, max_examples=40)
@given(batches_of_pages, st.integers(1, 4), st.sampled_from([1, 4, 16, 64]))
def test_min_hash(batch: list[bytes], words: int, bins: int) -> None:
    expected = of_each(batch, lambda page: oracle.min_hash(page, words, bins))
    assert list(_kernels.min_hash_features(b"".join(batch), words, bins)) == expected


def test_several_pages_have_the_features_of_each() -> None:
    """For the twins that are too slow for batches."""
    random = Random(1)
    batch = [compressible_page(random), random_page(random), bytes(PAGE)]
    for features in (
        lambda content: _kernels.ntransform_features(content, 4),
        _kernels.finesse_features,
    ):
        expected = of_each(batch, lambda page, features=features: [*features(page)])  # type: ignore[misc]
        assert list(features(b"".join(batch))) == expected


def test_pages_that_say_nothing_have_no_min_hash() -> None:
    for page in (bytes(PAGE), b"\xff" * PAGE):
        for words in range(1, 5):
            assert set(_kernels.min_hash_features(page, words, 8)) == {0}
    assert set(_kernels.min_hash_features(b"abcdefgh" * (PAGE // 8), 2, 8)) == {0}


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: _kernels.min_hash_features(bytes(PAGE - 1), 4, 4),
        lambda: _kernels.min_hash_features(bytes(PAGE), 5, 4),
        lambda: _kernels.min_hash_features(bytes(PAGE), 0, 4),
        lambda: _kernels.min_hash_features(bytes(PAGE), 4, 3),
        lambda: _kernels.min_hash_features(bytes(PAGE), 4, 128),
        lambda: _kernels.odess_features(bytes(PAGE), 5),
        lambda: _kernels.ntransform_features(bytes(PAGE), 0),
        lambda: _kernels.block_keys(bytes(PAGE), array("I", [0, 64]), 3),
        lambda: _kernels.block_keys(bytes(PAGE), array("I", [PAGE - 63]), 1),
        lambda: _kernels.block_keys(bytes(PAGE), array("I", range(9)), 1),
        lambda: _kernels.block_keys(bytes(PAGE), array("I"), 1),
    ],
)
def test_wrong_parameters_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\d|places"):
        wrong()
