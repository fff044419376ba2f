"""Real pairs of pages and bases."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from difffs.recipe import RECIPES
from difffs.study.context import Context
from difffs.study.corpus import Corpus
from difffs.study.importing import RECIPE_PASS_VERSION, recipe_pass
from difffs.study.pairs import Pair, sample_pairs
from tests.stores import scratch


def pages_of(corpus: Corpus) -> set[bytes]:
    found: set[bytes] = set()
    for image in corpus.images:
        content = image.path.read_bytes()
        found.update(content[at : at + 4096] for at in range(0, len(content), 4096))
    return found


def drawn(corpus: Corpus, folder: Path, count: int, seed: int = 1) -> tuple[list[Pair], int]:
    folder.mkdir()
    return sample_pairs(corpus.images, folder, count, seed)


def test_pairs_are_pages_of_the_images(
    context: Context, corpora: list[Corpus], tmp_path: Path
) -> None:
    recipe = RECIPES["patch-only"].to_dict()
    imports = context.each_corpus("import", RECIPE_PASS_VERSION, recipe_pass, recipe=recipe)
    for corpus in corpora:
        pairs, seen = drawn(corpus, tmp_path / corpus.name, 10**6)
        # a page that equals an earlier one of its batch shares that one's patch
        assert 0 < len(pairs) == seen <= imports[corpus.name]["pages"]["patch"] + 200
        pages = pages_of(corpus)
        assert all(pair.page in pages and pair.base in pages for pair in pairs)
        assert all(pair.page != pair.base for pair in pairs)


def test_a_sample_is_drawn_from_all(corpora: list[Corpus], tmp_path: Path) -> None:
    every, seen = drawn(corpora[0], tmp_path / "all", 10**6)
    some, seen_again = drawn(corpora[0], tmp_path / "some", 50)
    same, _ = drawn(corpora[0], tmp_path / "same", 50)
    other, _ = drawn(corpora[0], tmp_path / "other", 50, seed=2)
    assert len(some) == 50
    assert seen_again == seen
    assert some == same != other
    assert set(some) | set(other) <= set(every)
    late = every[seen // 2 :]
    assert set(some) & set(late), "not the first ones only"


@given(st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_never_more_than_wanted(corpora: list[Corpus], count: int, seed: int) -> None:
    with scratch() as folder:
        pairs, seen = sample_pairs(corpora[1].images, folder, count, seed)
    assert len(pairs) == min(count, seen)
