"""How pairs differ, against walks over their bytes and against pages changed on purpose."""

from pathlib import Path
from random import Random

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difffs._kernels import Context as CodecContext
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study import differences
from difffs.study.changes import COLUMNS, Kind, change_all
from difffs.study.corpus import Corpus
from difffs.study.differences import Place, Word, add_up, classify
from difffs.study.pairs import sample_pairs
from difffs.study.words import Pages, are_addresses
from tests.pages import compressible_page, random_page

seeds = st.integers(0, 2**32 - 1)


def rows(pages: list[bytes]) -> Pages:
    return numpy.frombuffer(b"".join(pages), dtype=numpy.uint8).reshape(-1, PAGE_SIZE)


def some_flags(seed: int) -> differences.Flags:
    """Three rows with set places few and many, single and in runs."""
    chance = numpy.random.RandomState(seed)
    flags: differences.Flags = chance.random_sample((3, PAGE_SIZE)) < chance.choice(
        [0.001, 0.1, 0.7, 1.0]
    )
    flags[0, 100 : 100 + chance.randint(1, 3000)] = True
    flags[1, 0] = flags[2, -1] = True
    return flags


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_runs_are_those_of_a_walk(seed: int) -> None:
    flags = some_flags(seed)
    walked = []
    for row, line in enumerate(flags.tolist()):
        first = None
        for place, flag in enumerate([*line, False]):
            if flag and first is None:
                first = place
            if not flag and first is not None:
                walked.append((row, first, place - first))
                first = None
    runs = differences.find_runs(flags)
    assert list(zip(runs.rows, runs.firsts, runs.lengths, strict=True)) == walked

    kept = differences.keep_long_runs(flags)
    expected = numpy.zeros_like(flags)
    for row, first, length in walked:
        expected[row, first : first + length] = length >= 32
    assert numpy.array_equal(kept, expected)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_pieces_hold_nine_of_ten_changes_and_are_the_shortest(seed: int) -> None:
    flags = some_flags(seed)
    for line, first, behind in zip(flags, *differences.find_pieces(flags), strict=True):
        places = numpy.flatnonzero(line)
        if places[-1] + 1 - places[0] <= 2 * len(places):
            assert (first, behind) == (places[0], places[-1] + 1)
        else:
            wanted = -(-len(places) * 9 // 10)
            assert line[first:behind].sum() == wanted
            others = places[wanted - 1 :] - places[: len(places) - wanted + 1] + 1
            assert behind - first == others.min()


@pytest.mark.parametrize("distance", [8, 24, 205, 1000, -8, -333, -2000])
def test_the_distance_of_a_moved_page_is_found(distance: int) -> None:
    random = Random(distance)
    base = compressible_page(random)
    noise = random_page(random)
    if distance > 0:
        page = base[distance:] + noise[:distance]
    else:
        page = noise[:-distance] + base[:distance]
    unrelated = random_page(random)
    pages, bases = rows([page, unrelated, base]), rows([base, base, base])
    assert differences.find_distances(pages, bases).tolist() == [distance, 0, 0]
    shifts = differences.find_shifts(pages, bases)
    assert shifts.better.tolist() == [True, False, False]
    assert shifts.explains.tolist()[1:] == [False, False]
    equal = differences.find_equal(pages, bases, numpy.array([distance, 0, 0]))
    assert equal.sum(axis=1)[0] >= PAGE_SIZE - abs(distance)
    assert numpy.array_equal(equal[1], pages[1] == bases[1])


def test_repeated_words_tell_no_distance() -> None:
    page = bytes(2048) + b"ABCDEFGH" * 256
    base = b"ABCDEFGH" * 256 + bytes(2048)
    assert differences.find_distances(rows([page]), rows([base])).tolist() == [0]


def test_words_by_kind() -> None:
    def page(words: dict[int, int]) -> bytes:
        return b"".join(words.get(i, 5 << 50).to_bytes(8, "little") for i in range(512))

    kernel, user = 0xFFFF_8880_1234_5678, 0x0000_7F12_1234_5678
    base = page({1: kernel, 2: kernel, 3: user, 4: 0, 5: 77, 6: 77, 7: kernel})
    other = page({1: kernel + 64, 2: user, 3: user + 8, 4: user, 5: 78, 6: 1 << 40, 7: 5})
    found = differences.classify_words(rows([other]), rows([base]))[0].tolist()
    expected = [Word.NEAR, Word.FAR, Word.NEAR, Word.ZERO, Word.NUMBER, Word.OTHER, Word.OTHER]
    assert [list(Word)[kind] for kind in found[1:8]] == expected
    assert set(found[:1] + found[8:]) == {-1}


def test_addresses() -> None:
    addresses = {
        0xFFFF_8880_0000_0000: True,
        0xFFFF_FFFF_8100_0000: True,
        0x0000_5566_7788_9900: True,
        0x0000_7FFF_FFFF_E000: True,
        2**64 - 1: False,  # -1
        2**64 - 12: False,  # an error code
        0: False,
        4096: False,
        0x0000_0001_0000_0000: False,
        0x2020_2020_2020_2020: False,  # spaces
    }
    words = numpy.array(list(addresses), dtype=numpy.uint64)
    assert are_addresses(words).tolist() == list(addresses.values())


RECOGNISED = {
    Kind.END: Place.END,
    Kind.START: Place.START,
    Kind.RUN: Place.RUN,
    Kind.BYTES: Place.BYTES,
    Kind.POINTERS: Place.POINTERS,
    Kind.SHIFT: Place.SHIFT,
}


@pytest.mark.parametrize("kind", RECOGNISED)
@pytest.mark.parametrize("similarity", [0.99, 0.95, 0.9])
def test_changed_pages_are_recognised(kind: Kind, similarity: float) -> None:
    random = Random(7)
    bases = [compressible_page(random) for _ in range(40)]
    made = change_all(kind, bases, similarity, 1)
    pairs = [(page, base) for page, base in zip(made, bases, strict=True) if page is not None]
    assert len(pairs) > 20
    found = classify(rows([page for page, _base in pairs]), rows([base for _page, base in pairs]))
    # an insertion close to the end moves less than it brings
    assert found.count(RECOGNISED[kind]) >= 0.8 * len(found)


def test_what_is_none_of_these_is_other() -> None:
    base = compressible_page(Random(1))
    page = bytearray(base)
    for first in (100, 1500, 3300):
        page[first : first + 200] = random_page(Random(first))[:200]
    assert classify(rows([bytes(page)]), rows([base])) == [Place.OTHER]


# ------------------------------------------------------------------------------------ measurement


def test_sums_are_those_of_the_pairs(corpora: list[Corpus], scratch_folder: Path) -> None:
    images = corpora[0].images
    for name in ("theirs", "ours"):
        (scratch_folder / name).mkdir()
    parameters = {"pairs": 150, "seed": 4}
    result = differences.difference_pass(images, scratch_folder / "theirs", parameters)
    pairs, found = sample_pairs(images, scratch_folder / "ours", 150, 4)
    assert (result["pairs"], result["found"]) == (len(pairs), found)
    assert len(pairs) == 150, "more than one chunk"

    total = add_up(result["cells"])
    counts = [sum(map(int.__ne__, pair.page, pair.base)) for pair in pairs]
    assert total["pairs"] == len(pairs)
    assert total["changed"] == sum(counts) == sum(total["run_bytes"])
    assert sum(total["parts"]) == pytest.approx(len(pairs))
    assert set(total["patches"]) == set(COLUMNS)
    context = CodecContext()
    for name, codec in (("zstd 1", Codec.ZSTD_PREFIX), ("VCDIFF", Codec.VCDIFF)):
        lengths = [len(context.encode(codec, p.page, p.base) or p.page) for p in pairs]
        assert total["patches"][name] == sum(lengths)

    pages, bases = rows([p.page for p in pairs]), rows([p.base for p in pairs])
    places = classify(pages, bases)
    for place in Place:
        cells = [cell for cell in result["cells"] if cell["place"] == place]
        assert sum(cell["pairs"] for cell in cells) == places.count(place)
    for number in range(len(differences.EQUAL_SHARES) - 1):
        lower, upper = differences.EQUAL_SHARES[number : number + 2]
        inside = [c for c in counts if lower <= 1 - c / PAGE_SIZE < upper]
        cells = [cell for cell in result["cells"] if cell["similarity"] == number]
        assert sum(cell["pairs"] for cell in cells) == len(inside)
        assert sum(cell["changed"] for cell in cells) == sum(inside)
    runs = differences.find_runs(pages != bases)
    assert sum(total["runs"]) == len(runs.rows)
    assert sum(total["aligned_runs"]) == int((runs.firsts % 8 == 0).sum())
    assert total["runs"][0] == int((runs.lengths == 1).sum())
    assert total["runs"][3] == int(((runs.lengths >= 5) & (runs.lengths <= 8)).sum())
    changed_words = (pages.reshape(-1, 512, 8) != bases.reshape(-1, 512, 8)).any(axis=2)
    assert sum(total["words"]) == int(changed_words.sum())
