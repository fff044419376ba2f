"""What the passes over similar pages count, against a walk over the pages."""

from pathlib import Path

import pytest

from difffs._kernels import Context as CodecContext
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.recipe import RECIPES
from difffs.study import similarity
from difffs.study.corpus import Corpus, Image
from difffs.study.detectors.catalogue import DETECTORS, PAPER, PRODUCT
from difffs.study.detectors.detector import Detector
from difffs.study.distinct import DistinctPages
from tests.study.detectors.detector_oracle import windows

SAMPLE = {"sample": 40, "seed": 3}


def pages_of(corpus: Corpus) -> list[bytes]:
    with DistinctPages(corpus.images) as pages:
        return [pages[number] for number in range(len(pages))]


def alone(page: bytes) -> int:
    return len(CodecContext().encode(Codec.ZSTD, page) or page)


def taken(page: bytes, bases: list[bytes]) -> int | None:
    """The bytes of the best patch with its base's number, if it is clearly smaller."""
    patches = [CodecContext().encode(Codec.ZSTD_PREFIX, page, base) for base in bases]
    smallest = min((4 + len(patch) for patch in patches if patch is not None), default=PAGE_SIZE)
    return smallest if smallest < RECIPES["default"].patch_ratio / 256 * alone(page) else None


def candidates(detector: Detector, index: dict[int, list[int]], features: list[int]) -> list[int]:
    votes: dict[int, int] = {}
    for feature in features:
        for number in index.get(feature, []) if feature else []:
            votes[number] = votes.get(number, 0) + 1
    ranked = sorted(votes, key=lambda number: -votes[number])  # stable: the first met of equals
    return ranked[: detector.candidates]


def enter(
    detector: Detector, index: dict[int, list[int]], features: list[int], number: int
) -> None:
    for feature in features:
        held = index.setdefault(feature, [])
        if detector.newest:
            held[:] = [number, *held][: detector.kept]
        elif len(held) < detector.kept:
            held.append(number)


@pytest.mark.parametrize(
    "name", [PAPER.name, "(2,1) c=4", "Odess 12 x 1", PRODUCT.name, "min-hash 16"]
)
def test_detectors_are_counted_as_by_a_walk(
    corpora: list[Corpus], tmp_path: Path, name: str
) -> None:
    corpus, detector = corpora[0], DETECTORS[name]
    pages = pages_of(corpus)
    result = similarity.detector_pass(corpus.images, tmp_path, {"detectors": [name], **SAMPLE})
    assert result["pages"] == len(pages)
    assert result["alone"] == sum(map(alone, pages))
    chosen = similarity.sample_numbers(len(pages), *SAMPLE.values())
    assert result["sample_pages"] == len(chosen) == 40
    assert result["sample_alone"] == sum(alone(pages[number]) for number in chosen)

    bases: dict[int, list[int]] = {}
    everything: dict[int, list[int]] = {}
    tallies = {kind: similarity.Tally() for kind in ("whole", "sample", "sample_of_all")}
    for number, page in enumerate(pages):
        features = list(detector.sketch(page))
        found = candidates(detector, bases, features)
        patched = taken(page, [pages[base] for base in found])
        tallies["whole"].count(found, alone(page), patched)
        if number in chosen:
            tallies["sample"].count(found, alone(page), patched)
            of_all = candidates(detector, everything, features)
            best = taken(page, [pages[base] for base in of_all])
            tallies["sample_of_all"].count(of_all, alone(page), best)
        if patched is None:
            enter(detector, bases, features, number)
        enter(detector, everything, features, number)
    counted = result["detectors"][name]
    bases.pop(0, None)
    assert counted["slots"] == sum(map(len, bases.values()))
    for kind, tally in tallies.items():
        assert similarity.Tally(**counted[kind]) == tally, kind
    assert tallies["whole"].taken > 0


def test_a_tally_adds_up() -> None:
    tally = similarity.Tally()
    tally.count([], 1000, None)
    tally.count([4, 5], 900, 300)
    tally.count([7], 800, None)
    assert tally == similarity.Tally(pages=3, found=2, tries=3, taken=1, kept=2100)


def test_oracles_patch_against_the_page_with_most_in_common(
    corpora: list[Corpus], tmp_path: Path
) -> None:
    corpus = corpora[0]
    pages = pages_of(corpus)
    chosen = similarity.sample_numbers(len(pages), 12, 5)
    result = similarity.oracle_pass(corpus.images, tmp_path, {"sample": 12, "seed": 5})
    sets = {
        words: [{tuple(window) for window in windows(page, words)} for page in pages]
        for words in similarity.ORACLE_WORDS
    }
    for name, wanted in similarity.ORACLES.items():
        tally = similarity.Tally()
        for number in chosen:
            found: dict[int, None] = {}
            for words, count in wanted.items():
                of_words = sets[words]
                common = [(len(of_words[number] & of_words[i]), i) for i in range(number)]
                ranked = sorted((pair for pair in common if pair[0]), reverse=True)
                found.update((i, None) for _count, i in ranked[:count])
            patched = taken(pages[number], [pages[i] for i in found])
            tally.count(list(found), alone(pages[number]), patched)
        assert similarity.Tally(**result[name]) == tally, name
        assert tally.taken > 0


def test_every_detector_has_its_times(corpora: list[Corpus], tmp_path: Path) -> None:
    names = list(DETECTORS)
    result = similarity.time_pass(corpora[0].images, tmp_path, {"detectors": names, **SAMPLE})
    for kind in ("sketch_us", "lookup_us"):
        assert list(result[kind]) == names
        assert all(microseconds > 0 for microseconds in result[kind].values())
    assert result["try_us"] > 0


def test_the_products_table_is_measured_in_an_import(
    corpora: list[Corpus], scratch_folder: Path
) -> None:
    result = similarity.product_pass(corpora[0].images, scratch_folder, {})
    assert result["recipe"] == "default"
    assert result["pages"]["patch"] > 0
    bases = result["pages"]["compress"] + result["pages"]["raw"]
    assert 4 * bases < result["sketch_bytes"] < result["bytes"]["metadata"]


def test_an_image_of_zeros_has_nothing_to_find(tmp_path: Path) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(4 * PAGE_SIZE))
    images = [Image.of(path)]
    nothing = similarity.Tally()
    parameters = {"detectors": [PRODUCT.name], **SAMPLE}
    result = similarity.detector_pass(images, tmp_path, parameters)
    assert result["pages"] == result["alone"] == result["sample_pages"] == 0
    assert similarity.Tally(**result["detectors"][PRODUCT.name]["whole"]) == nothing
    oracles = similarity.oracle_pass(images, tmp_path, SAMPLE)
    assert all(similarity.Tally(**tally) == nothing for tally in oracles.values())
    assert similarity.time_pass(images, tmp_path, parameters)["try_us"] == 0
