"""Pages of a corpus, drawn at random from those that are worth looking at."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

from difffs._kernels import Context, digest, same_word
from difffs.codec import Codec
from difffs.page import PAGE_SIZE
from difffs.study.corpus import Image
from difffs.study.importing import batches

_INCOMPRESSIBLE_BYTES = 4032
"""What zstd 1 leaves larger is kept raw, as the engine does."""


def distinct_pages(images: Sequence[Image]) -> array[int]:
    """Return the numbers (array 'Q') of pages, counted over all images, in order: without pages of
    one repeated word and all but the first of equal ones."""
    kept = array("Q")
    seen = set()
    first = 0
    for image in images:
        for start, content in batches(image):
            for offset in range(0, len(content), PAGE_SIZE):
                page = content[offset : offset + PAGE_SIZE]
                if same_word(page) is None and (name := digest(page)) not in seen:
                    seen.add(name)
                    kept.append(first + start + offset // PAGE_SIZE)
        first += image.pages
    return kept


def read_pages(images: Sequence[Image], wanted: Sequence[int]) -> bytes:
    """Return pages by their number in all images together, which must ascend."""
    found = bytearray()
    numbers = iter(wanted)
    number = next(numbers, None)
    first = 0
    for image in images:
        with image.mapped() as content:
            while number is not None and number < first + image.pages:
                offset = (number - first) * PAGE_SIZE
                found += content[offset : offset + PAGE_SIZE]
                number = next(numbers, None)
        first += image.pages
    return bytes(found)


def sample_pages(images: Sequence[Image], count: int, seed: int) -> list[bytes]:
    """Return up to `count` distinct pages in the order of the images.

    Drawn at random from pages that are neither one repeated word nor incompressible.
    """
    context = Context()
    numbers = distinct_pages(images)
    shuffled = random.Random(seed).sample(numbers, len(numbers))
    chosen: dict[int, bytes] = {}
    for start in range(0, len(shuffled), max(1, count)):
        drawn = shuffled[start : start + count]
        content = read_pages(images, sorted(drawn))
        places = {number: place for place, number in enumerate(sorted(drawn))}
        for number in drawn:
            page = content[places[number] * PAGE_SIZE : (places[number] + 1) * PAGE_SIZE]
            frame = context.encode(Codec.ZSTD, page)
            if frame is not None and len(frame) <= _INCOMPRESSIBLE_BYTES and len(chosen) < count:
                chosen[number] = page
        if len(chosen) == count:
            break
    return [chosen[number] for number in sorted(chosen)]
