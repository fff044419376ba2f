"""Passes of the study over images that exist while a pass looks at them.

An image is a number. Each tenth of a family's pages is in all ten images of the family; the others
are an image's own: a quarter zeros, the rest records that are like a few of the image's templates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.random import RandomState
from numpy.typing import NDArray

from difffs.page import PAGE_SIZE
from difffs.study import sharing, similarity
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.detectors.catalogue import PAPER, PRODUCT
from difffs.study.passes import Pass

_WORDS = PAGE_SIZE // 8
_FAMILY_IMAGES = 10
_TEMPLATES = 64
_CHANGED_WORDS = 12
_ZERO_SHARE = 0.25
_FILLED_SHARE = 0.4
"""Of a template's words: those that are not zero."""

SAMPLE = 300

Words = NDArray[numpy.uint64]


def digests_and_detectors(images: int, pages: int) -> tuple[list[Pass], list[Pass]]:
    """Return the passes over that many images: one of digests and one of detectors for each."""
    return (
        [
            Pass("generated digests", sharing.DIGEST_PASS_VERSION, digest_pass, (), parameters)
            for parameters in _parameters(images, pages)
        ],
        [
            Pass(
                "generated detectors",
                similarity.DETECTOR_PASS_VERSION,
                detector_pass,
                (),
                {
                    **parameters,
                    "detectors": [PRODUCT.name, PAPER.name],
                    "sample": SAMPLE,
                    "seed": 1,
                },
            )
            for parameters in _parameters(images, pages)
        ],
    )


def _parameters(images: int, pages: int) -> list[dict[str, Any]]:
    return [{"image": number, "pages": pages} for number in range(images)]


def digest_pass(_images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """As sharing.digest_pass(); parameters: `image` and `pages`."""
    return sharing.digest_pass([_image(folder, parameters)], folder, {})


def detector_pass(_images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """As similarity.detector_pass(), on a corpus of one image; parameters: `image` and `pages`, and
    its own."""
    return similarity.detector_pass([_image(folder, parameters)], folder, parameters)


def _image(folder: Path, parameters: Mapping[str, Any]) -> Image:
    path = folder / "generated.mem"
    number, pages = parameters["image"], parameters["pages"]
    common = pages // 10
    with path.open("wb") as file:
        _pages(RandomState([1, number // _FAMILY_IMAGES]), common).tofile(file)
        _pages(RandomState([2, number]), pages - common).tofile(file)
    return Image(path, f"generated-{number}", pages, sha256="")


def _pages(chance: RandomState, count: int) -> Words:
    filled = chance.random_sample((_TEMPLATES, _WORDS)) < _FILLED_SHARE
    templates = chance.randint(0, 1 << 32, (_TEMPLATES, _WORDS)).astype("<u8") * filled
    pages: Words = templates[chance.randint(0, _TEMPLATES, count)]
    rows = numpy.repeat(numpy.arange(count), _CHANGED_WORDS)
    pages[rows, chance.randint(0, _WORDS, len(rows))] = chance.randint(0, 1 << 48, len(rows))
    pages[chance.random_sample(count) < _ZERO_SHARE] = 0
    return pages
