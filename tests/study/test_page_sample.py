"""Pages drawn from a corpus."""

from pathlib import Path
from random import Random

from difffs._kernels import Context as CodecContext
from difffs._kernels import same_word
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Corpus, Image
from difffs.study.page_sample import distinct_pages, read_pages, sample_pages
from tests.pages import compressible_page, random_page, same_filled_page


def worth_looking_at(corpus: Corpus) -> list[bytes]:
    """Distinct pages that are neither one repeated word nor incompressible, in order."""
    context = CodecContext()
    found: dict[bytes, None] = {}
    for image in corpus.images:
        content = image.path.read_bytes()
        for offset in range(0, len(content), PAGE_SIZE):
            page = content[offset : offset + PAGE_SIZE]
            frame = context.encode(Codec.ZSTD, page)
            if same_word(page) is None and frame is not None and len(frame) <= 4032:
                found[page] = None
    return list(found)


def test_samples_are_drawn_from_all_pages_that_count(corpora: list[Corpus]) -> None:
    for corpus in corpora:
        every = worth_looking_at(corpus)
        assert sample_pages(corpus.images, 10**6, 1) == every
        some = sample_pages(corpus.images, 50, 1)
        assert len(some) == len(set(some)) == 50
        assert some == [page for page in every if page in set(some)], "in order"
        assert some == sample_pages(corpus.images, 50, 1)
        assert some != sample_pages(corpus.images, 50, 2)
        assert set(some) & set(every[len(every) // 2 :]), "not the first ones only"


def test_incompressible_and_repeated_pages_are_left_out(tmp_path: Path) -> None:
    random = Random(1)
    page = compressible_page(random)
    path = tmp_path / "few.mem"
    noise = [random_page(random) for _ in range(9)]
    path.write_bytes(b"".join([*noise, page, same_filled_page(random), bytes(PAGE_SIZE), page]))
    images = [Image.of(path)]
    assert sample_pages(images, 3, 1) == [page]
    assert list(distinct_pages(images)) == list(range(10))
    assert read_pages(images, [1, 9]) == noise[1] + page
