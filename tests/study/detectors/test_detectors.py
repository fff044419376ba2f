"""The detectors: their published parameters, and which pages they take for similar."""

from itertools import pairwise
from random import Random
from statistics import mean

import pytest

from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study.detectors import difference_engine, super_features
from difffs.study.detectors.catalogue import DETECTORS, PAPER, PRODUCT
from difffs.study.detectors.detector import Detector
from difffs.study.detectors.min_hash import min_hash
from tests.pages import compressible_page, random_page, similar_page

NAMES = list(DETECTORS)


def in_common(detector: Detector, page: bytes, other: bytes) -> int:
    """Features that both pages have, at whatever place."""
    features = [set(detector.sketch(each)) - {0} for each in (page, other)]
    return len(features[0] & features[1])


def shares_in_common(detector: Detector, pairs: list[tuple[bytes, bytes]]) -> list[float]:
    return [in_common(detector, page, other) / detector.width for page, other in pairs]


def similar_pairs(count: int, words: int, seed: int = 1) -> list[tuple[bytes, bytes]]:
    random = Random(seed)
    bases = [compressible_page(random) for _ in range(count)]
    return [(base, similar_page(base, random, words)) for base in bases]


def shifted_pairs(count: int, shift: int) -> list[tuple[bytes, bytes]]:
    random = Random(2)
    bases = [compressible_page(random) for _ in range(count)]
    return [(base, random.randbytes(shift) + base[:-shift]) for base in bases]


# ------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", NAMES)
def test_features_are_a_function_of_the_page(name: str) -> None:
    detector = DETECTORS[name]
    page, other = compressible_page(Random(3)), compressible_page(Random(4))
    features = detector.sketch(page + other + page)
    width = detector.width
    assert len(features) == 3 * width
    assert features[:width] == features[2 * width :] == detector.sketch(page)
    assert features[width : 2 * width] == detector.sketch(other)


@pytest.mark.parametrize("name", NAMES)
def test_strangers_have_less_in_common_than_similar_pages(name: str) -> None:
    random = Random(5)
    strangers = [(compressible_page(random), compressible_page(random)) for _ in range(40)]
    unlike = mean(shares_in_common(DETECTORS[name], strangers))
    assert unlike < mean(shares_in_common(DETECTORS[name], similar_pairs(40, 12))) / 3
    noise = [(random_page(random), random_page(random)) for _ in range(40)]
    assert mean(shares_in_common(DETECTORS[name], noise)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_more_changes_leave_less_in_common(name: str) -> None:
    few = shares_in_common(DETECTORS[name], similar_pairs(60, 4))
    many = shares_in_common(DETECTORS[name], similar_pairs(60, 200))
    assert mean(few) > mean(many)


def test_names_tell_detectors_apart() -> None:
    assert all(detector.name == name for name, detector in DETECTORS.items())
    described = {(d.family, d.width, d.kept, d.newest, d.candidates) for d in DETECTORS.values()}
    assert len(described) > len(DETECTORS) / 2


# ------------------------------------------------------------------------- published parameters


def test_difference_engine_has_two_keys_of_64_bytes_and_the_first_page_of_each() -> None:
    assert PAPER is DETECTORS["(2,1) c=1"]
    assert (PAPER.width, PAPER.kept, PAPER.newest, PAPER.candidates) == (2, 1, False, 2)
    assert difference_engine.BLOCK_BYTES == 64
    four = difference_engine.hash_similarity_detector(4, 2, candidates=3)
    assert (four.width, four.kept, four.candidates) == (4, 3, 12)


def test_blocks_lie_at_the_same_places_and_do_not_overlap() -> None:
    places = difference_engine.places(16)
    assert places[:2].tolist() == list(difference_engine.PRODUCT_PLACES)
    assert difference_engine.places(5) == places[:5]
    assert all(0 <= place <= PAGE_SIZE - 64 for place in places)
    ordered = sorted(places)
    assert all(after - before >= 64 for before, after in pairwise(ordered))


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_key_changes_with_its_blocks_only(blocks: int) -> None:
    detector = difference_engine.hash_similarity_detector(2, blocks)
    page = compressible_page(Random(6))
    before = detector.sketch(page)
    places = difference_engine.places(2 * blocks)
    for byte in range(0, PAGE_SIZE, 17):
        changed = page[:byte] + bytes([page[byte] ^ 1]) + page[byte + 1 :]
        features = detector.sketch(changed)
        for key in range(2):
            mine = places[key * blocks : (key + 1) * blocks]
            within = any(place <= byte < place + 64 for place in mine)
            assert (features[key] != before[key]) is within


@pytest.mark.parametrize(
    "detector",
    [super_features.ntransform(), super_features.finesse(), super_features.odess()],
    ids=lambda detector: detector.name,
)
def test_there_are_three_super_features_of_four(detector: Detector) -> None:
    assert (super_features.FEATURES, super_features.GROUPED, detector.width) == (12, 4, 3)
    assert detector.candidates == detector.kept == 1


def test_the_products_sketch_is_its_default_recipes() -> None:
    assert PRODUCT.width == RECIPES["default"].sketch.features == 4
    assert PRODUCT.candidates == RECIPES["default"].candidates


# ------------------------------------------------------------------------------------ similarity


@pytest.mark.parametrize("detector", [PRODUCT, min_hash(8), min_hash(16), min_hash(32, words=1)])
def test_min_hash_estimates_the_overlap(detector: Detector) -> None:
    """Twelve changed words of 512 leave more than nine tenths of the windows."""
    assert mean(shares_in_common(detector, similar_pairs(100, 12))) > 0.8
    assert mean(shares_in_common(detector, similar_pairs(100, 300))) < 0.6


@pytest.mark.parametrize(
    "detector", [super_features.ntransform(), super_features.odess()], ids=lambda d: d.name
)
def test_a_super_feature_survives_few_changes(detector: Detector) -> None:
    shares = shares_in_common(detector, similar_pairs(60, 4))
    assert mean(share > 0 for share in shares) > 0.9


def test_super_features_ask_for_more_than_features() -> None:
    pairs = similar_pairs(60, 60)
    grouped = mean(shares_in_common(super_features.ntransform(), pairs))
    single = mean(shares_in_common(super_features.ntransform(grouped=1), pairs))
    assert grouped < single


def test_content_out_of_step_is_found_by_rolling_hashes_alone() -> None:
    pairs = shifted_pairs(40, 43)
    for detector in (super_features.ntransform(grouped=1), super_features.odess(grouped=1)):
        assert mean(shares_in_common(detector, pairs)) > 0.8
    for detector in (PAPER, PRODUCT, min_hash(16)):
        assert mean(shares_in_common(detector, pairs)) < 0.1


def test_min_hash_does_not_mind_a_shift_by_words() -> None:
    pairs = shifted_pairs(40, 40)
    assert mean(shares_in_common(PRODUCT, pairs)) > 0.8
    assert mean(shares_in_common(PAPER, pairs)) < 0.1
