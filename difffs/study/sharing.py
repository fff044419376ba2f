"""Which pages are the same within an image and across images: a pass an image, results merge.

Counted by digest alone (64 bits of XXH3): for a statistic that is exact enough, sharing itself
compares bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from difffs._kernels import digest, same_word
from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.hash_ranges import count_distinct
from difffs.study.importing import batches
from difffs.study.stored_array import length

DIGEST_PASS_VERSION = 2


def digest_pass(images: Sequence[Image], _folder: Path, _parameters: Mapping[str, Any]) -> Result:
    """Digests of one image's pages: {pages, zero, same, digests}.

    `digests` is a sorted array of uint64: the distinct pages that are not same-filled.
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
    digests = numpy.unique(found[:used])
    return {"pages": image.pages, "zero": zero, "same": same, "digests": digests}


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
    pages, zero, same = (
        sum(result[key] for result in results) for key in ("pages", "zero", "same")
    )
    digests = [result["digests"] for result in results]
    in_images = sum(map(length, digests))
    distinct = count_distinct(digests)
    return Sharing(
        pages=pages,
        zero=zero,
        same=same,
        distinct=distinct,
        within=pages - zero - same - in_images,
        across=in_images - distinct,
    )
