"""Which pages of a corpus are distinct, and how they are read."""

from pathlib import Path
from random import Random

from difffs.engine import BATCH_PAGES
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Corpus, Image
from difffs.study.distinct import DistinctPages
from tests.pages import compressible_page, same_filled_page


def image_of(path: Path, pages: list[bytes]) -> Image:
    path.write_bytes(b"".join(pages))
    return Image.of(path)


def test_each_page_is_there_once_in_order_of_arrival(tmp_path: Path) -> None:
    random = Random(1)
    a, b, c, d = (compressible_page(random) for _ in range(4))
    first = image_of(tmp_path / "first.mem", [bytes(PAGE_SIZE), a, b, same_filled_page(random), a])
    second = image_of(tmp_path / "second.mem", [c, b, bytes(PAGE_SIZE), d, c])
    with DistinctPages([first, second]) as pages:
        assert [pages[number] for number in range(len(pages))] == [a, b, c, d]
        assert list(pages.batches()) == [(0, a + b + c + d)]


def test_batches_are_all_pages(corpora: list[Corpus]) -> None:
    for corpus in corpora:
        content = b"".join(image.path.read_bytes() for image in corpus.images)
        everything = {content[i : i + PAGE_SIZE]: None for i in range(0, len(content), PAGE_SIZE)}
        expected = [page for page in everything if page != page[:8] * (PAGE_SIZE // 8)]
        with DistinctPages(corpus.images) as pages:
            found = list(pages.batches())
        assert b"".join(batch for _first, batch in found) == b"".join(expected)
        assert [first for first, _batch in found] == list(range(0, len(expected), BATCH_PAGES))
        assert len(expected) > BATCH_PAGES


def test_an_image_of_zeros_has_none(tmp_path: Path) -> None:
    with DistinctPages([image_of(tmp_path / "zeros.mem", [bytes(PAGE_SIZE)] * 3)]) as pages:
        assert len(pages) == 0
        assert list(pages.batches()) == []
