"""Which pages are the same within an image and across images: a pass an image, results merge.

Counted by digest alone (64 bits of XXH3): for a statistic that is exact enough, sharing itself
compares bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from difffs._kernels import digest, same_word
from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.importing import batches

DIGEST_PASS_VERSION = 1


def digest_pass(images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """Digests of one image's pages: {pages, zero, same, digests, counts}.

    `digests` and `counts` are base64 of little-endian uint64 and uint32 arrays, sorted by digest:
    the distinct pages that are not same-filled, and how often each occurs.
    """
    (image,) = images
    zero = same = 0
    found = numpy.empty(image.pages, dtype="<u8")
    used = 0
    for _first, pages in batches(image):
        for start in range(0, len(pages), PAGE_SIZE):
            page = pages[start : start + PAGE_SIZE]
            word = same_word(page)
            if word is None:
                found[used] = digest(page)
                used += 1
            elif word == bytes(8):
                zero += 1
            else:
                same += 1
    digests, counts = numpy.unique(found[:used], return_counts=True)
    return {
        "pages": image.pages,
        "zero": zero,
        "same": same,
        "digests": base64.b64encode(digests.tobytes()).decode(),
        "counts": base64.b64encode(counts.astype("<u4").tobytes()).decode(),
    }


@dataclass(frozen=True, slots=True)
class Sharing:
    """What several images share."""

    pages: int
    zero: int
    same: int
    distinct: int
    """Different pages that are neither zero nor same-filled."""
    within: int
    """Pages that are one too many within their own image."""
    across: int
    """Pages that are then one too many because another image has them as well."""


def merge(results: Sequence[Result]) -> Sharing:
    """Merge the results of any number of images, in any order."""
    digests = [_decode(result["digests"], "<u8") for result in results]
    counted = sum(int(_decode(result["counts"], "<u4").sum()) for result in results)
    in_images = sum(len(one) for one in digests)
    distinct = len(numpy.unique(numpy.concatenate(digests))) if digests else 0
    return Sharing(
        pages=sum(result["pages"] for result in results),
        zero=sum(result["zero"] for result in results),
        same=sum(result["same"] for result in results),
        distinct=distinct,
        within=counted - in_images,
        across=in_images - distinct,
    )


def _decode(text: str, kind: str) -> NDArray[Any]:
    return numpy.frombuffer(base64.b64decode(text), dtype=kind)
