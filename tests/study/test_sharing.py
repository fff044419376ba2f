"""What is the same within and across images: against counting the pages themselves."""

from collections import Counter
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from difffs.page import PAGE_SIZE
from difffs.study.corpus import Corpus, Image
from difffs.study.sharing import Sharing, digest_pass, merge
from tests.pages import random_page, same_filled_page
from tests.stores import scratch

_RANDOM = Random(1)
ZERO = bytes(PAGE_SIZE)
SAME = [same_filled_page(_RANDOM) for _ in range(2)]
OTHERS = [random_page(_RANDOM) for _ in range(5)]
ONE_BYTE = [ZERO[:-1] + b"\1", SAME[0][:-1] + b"\0"]
"""Next to same-filled: all words but the last."""
PAGES = [ZERO, *SAME, *OTHERS, *ONE_BYTE]

images_of_pages = st.lists(
    st.lists(st.sampled_from(PAGES), min_size=1, max_size=30), min_size=1, max_size=4
)


def naive(images: list[list[bytes]]) -> Sharing:
    """Count with sets of whole pages."""
    alike = {ZERO, *SAME}
    kept = [[page for page in image if page not in alike] for image in images]
    own = [set(image) for image in kept]
    distinct = len(set().union(*own))
    return Sharing(
        pages=sum(map(len, images)),
        zero=sum(image.count(ZERO) for image in images),
        same=sum(page in SAME for image in images for page in image),
        distinct=distinct,
        within=sum(len(image) - len(single) for image, single in zip(kept, own, strict=True)),
        across=sum(map(len, own)) - distinct,
    )


def described(path: Path, pages: list[bytes]) -> Image:
    path.write_bytes(b"".join(pages))
    return Image.of(path)


@given(images_of_pages, st.randoms(use_true_random=False))
def test_counts_are_those_of_the_pages(images: list[list[bytes]], random: Random) -> None:
    with scratch() as folder:
        results = [
            digest_pass([described(folder / f"{number}.mem", image)], folder, {})
            for number, image in enumerate(images)
        ]
    expected = naive(images)
    assert merge(results) == expected
    random.shuffle(results)
    assert merge(results) == expected
    assert expected.pages == sum(
        (expected.zero, expected.same, expected.distinct, expected.within, expected.across)
    )


def test_images_longer_than_a_batch(corpora: list[Corpus], tmp_path: Path) -> None:
    for corpus in corpora:
        pages = []
        for image in corpus.images:
            content = image.path.read_bytes()
            pages.append([content[i : i + PAGE_SIZE] for i in range(0, len(content), PAGE_SIZE)])
        found = merge([digest_pass([image], tmp_path, {}) for image in corpus.images])
        every = Counter(page for image in pages for page in image)
        same = [page for page in every if page == page[:8] * (PAGE_SIZE // 8)]
        assert found.distinct == len(every) - len(same)
        assert found.zero == every[ZERO]
        assert found.zero + found.same == sum(every[page] for page in same)
        assert found.within + found.across == corpus.pages - found.zero - found.same - len(
            every.keys() - set(same)
        )


def test_no_images_share_nothing() -> None:
    assert merge([]) == Sharing(0, 0, 0, 0, 0, 0)
