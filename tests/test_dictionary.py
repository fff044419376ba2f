"""Training a store's dictionary from its first compressed pages."""

from random import Random

import pytest

from difffs import dictionary
from difffs._kernels import Context, Dictionary
from difffs.codec import Codec
from difffs.dictionary import DictionaryTrainer
from tests.pages import PAGE, compressible_page, guest_pages


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary, "SAMPLES", 64)


def trained(trainer: DictionaryTrainer, pages: list[bytes], compressed: list[int]) -> None:
    trainer.add(memoryview(b"".join(pages)), compressed)


def test_one_compressed_page_in_eight_is_a_sample() -> None:
    random = Random(1)
    trainer = DictionaryTrainer(4096, 1)
    pages = [compressible_page(random) for _ in range(100)]
    for _ in range(5):
        trained(trainer, pages, list(range(100)))
        assert not trainer.ready
    trained(trainer, pages, list(range(4)))
    assert not trainer.ready  # 504 pages: 63 samples
    trained(trainer, pages, [7])
    assert trainer.ready


def test_pages_that_were_not_compressed_teach_nothing() -> None:
    trainer = DictionaryTrainer(4096, 1)
    for _ in range(100):
        trained(trainer, guest_pages(Random(1), 20), [])
    assert not trainer.ready


def test_what_is_trained_compresses_pages_alike() -> None:
    random = Random(2)
    trainer = DictionaryTrainer(4096, 1)
    while not trainer.ready:
        trained(trainer, [compressible_page(random) for _ in range(64)], list(range(64)))
    content = trainer.train()
    assert content is not None
    assert len(content) <= 4096
    assert not trainer.ready  # the samples are gone
    context = Context()
    context.use(Dictionary(content))
    page = compressible_page(random)
    with_it, without = (
        context.encode(codec, page) for codec in (Codec.ZSTD_DICTIONARY, Codec.ZSTD)
    )
    assert with_it is not None
    assert without is not None
    assert len(with_it) < len(without)
    assert context.decode(Codec.ZSTD_DICTIONARY, with_it) == page


def test_samples_with_nothing_in_common_are_survived() -> None:
    random = Random(3)
    trainer = DictionaryTrainer(4096, 1)
    while not trainer.ready:
        trained(trainer, [random.randbytes(PAGE) for _ in range(64)], list(range(64)))
    content = trainer.train()
    assert content is None or len(content) <= 4096


def test_training_without_samples_gives_none() -> None:
    assert DictionaryTrainer(4096, 1).train() is None
