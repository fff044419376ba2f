"""Transforms of words: against words one by one, undone again, and what is counted of them."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy
import pytest

from difffs._kernels import Context as CodecContext
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.refine.tiers import COLD
from difffs.study import _kernels
from difffs.study.corpus import Corpus, Image
from difffs.study.transforming import sample_groups
from difffs.study.word_transforms import (
    ENCODINGS,
    PLAIN,
    SMALLEST,
    TRANSFORMS,
    byte_planes,
    deltas,
    word_transform_pass,
    xor,
)
from difffs.study.words import Pages
from tests.pages import compressible_page, random_page

WIDTHS = pytest.mark.parametrize("width", [4, 8])


def pages() -> list[bytes]:
    random = Random(11)
    return [random_page(random), compressible_page(random), b"\xff" * PAGE_SIZE]


def transformed(transform: Callable[[Pages, int], Pages], width: int) -> list[bytes]:
    content = numpy.frombuffer(b"".join(pages()), dtype=numpy.uint8).reshape(-1, PAGE_SIZE)
    made = transform(content, width)
    assert made.shape == content.shape
    return [row.tobytes() for row in made]


@WIDTHS
def test_byte_planes_are_every_nth_byte(width: int) -> None:
    for page, made in zip(pages(), transformed(byte_planes, width), strict=True):
        assert made == b"".join(page[i::width] for i in range(width))


def words(page: bytes, width: int) -> list[int]:
    return [int.from_bytes(page[i : i + width], "little") for i in range(0, PAGE_SIZE, width)]


@WIDTHS
def test_differences_add_up_to_the_words_of_each_page(width: int) -> None:
    for page, made in zip(pages(), transformed(deltas, width), strict=True):
        total = 0
        for word, difference in zip(words(page, width), words(made, width), strict=True):
            total = (total + difference) % (1 << 8 * width)
            assert total == word


@WIDTHS
def test_xor_gives_the_words_of_each_page_back(width: int) -> None:
    for page, made in zip(pages(), transformed(xor, width), strict=True):
        before = 0
        for word, changed in zip(words(page, width), words(made, width), strict=True):
            before ^= changed
            assert before == word


def test_bytes_are_those_of_the_stores_frames(corpora: list[Corpus], tmp_path: Path) -> None:
    images = corpora[0].images
    found = word_transform_pass(images, tmp_path, {"pages": 48, "seed": 2})
    sample = sample_groups(images, 48, 2)
    assert found["pages"] == len(sample) // PAGE_SIZE == 48
    context = CodecContext()
    pages_of = [sample[i : i + PAGE_SIZE] for i in range(0, len(sample), PAGE_SIZE)]
    planes = [b"".join(page[i::8] for i in range(8)) for page in pages_of]
    for name, contents in ((PLAIN, pages_of), ("byte planes of 8-byte words", planes)):
        for encoding, level in (("alone by zstd 1", 1), ("alone by zstd 16", 16)):
            lengths = [
                len(context.encode(Codec.ZSTD, page, None, level) or page) for page in contents
            ]
            assert found["bytes"][encoding][name] == sum(lengths)
        together = b"".join(contents)
        groups = [together[i : i + 16 * PAGE_SIZE] for i in range(0, len(together), 16 * PAGE_SIZE)]
        frames = [_kernels.zstd_encode(group, len(group), COLD.level)[0] for group in groups]
        assert found["bytes"]["16 together by zstd 16"][name] == sum(map(len, frames))


def test_the_smallest_is_chosen_for_each_block(tmp_path: Path) -> None:
    """One page counts upwards, which differences make short, and one is text."""
    counting = b"".join(number.to_bytes(8, "little") for number in range(9**6, 9**6 + 512))
    text = (b"the same words, over and over; " * 200)[:PAGE_SIZE]
    path = tmp_path / "two.mem"
    variants = [bytes([i]) + counting[1:] for i in range(8)] + [
        bytes([i]) + text[1:] for i in range(8)
    ]
    path.write_bytes(b"".join(variants))
    found = word_transform_pass([Image.of(path)], tmp_path, {"pages": 16, "seed": 1})
    for encoding, sizes in found["bytes"].items():
        of_all = [sizes[name] for name in TRANSFORMS]
        assert set(sizes) == {*TRANSFORMS, SMALLEST}
        if ENCODINGS[encoding].pages == 1:
            assert sizes[SMALLEST] < min(of_all)
        else:
            assert sizes[SMALLEST] == min(of_all), "there is one block"


def test_noise_is_kept_as_it_is(tmp_path: Path) -> None:
    random = Random(1)
    path = tmp_path / "noise.mem"
    path.write_bytes(b"".join(random_page(random) for _ in range(16)))
    found = word_transform_pass([Image.of(path)], tmp_path, {"pages": 16, "seed": 1})
    assert {size for sizes in found["bytes"].values() for size in sizes.values()} == {
        16 * PAGE_SIZE
    }


def test_an_image_without_sixteen_pages_to_look_at_has_no_sample(tmp_path: Path) -> None:
    path = tmp_path / "zeros.mem"
    path.write_bytes(bytes(64 * PAGE_SIZE))
    found = word_transform_pass([Image.of(path)], tmp_path, {"pages": 16, "seed": 1})
    assert found["pages"] == 0
    assert {size for sizes in found["bytes"].values() for size in sizes.values()} == {0}
