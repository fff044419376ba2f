"""Pages with their words taken apart, or told by their differences, before they are compressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from difffs.page import PAGE_SIZE
from difffs.refine.tiers import COLD
from difffs.study import _kernels
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.transforming import GROUP_PAGES, sample_groups
from difffs.study.words import Pages

WORD_TRANSFORM_PASS_VERSION = 1

PLAIN = "plain"
SMALLEST = "the smallest of these, chosen anew each time"


def byte_planes(pages: Pages, word_bytes: int) -> Pages:
    """Return each page with the first bytes of all its words in front, then the second ones, and
    so on."""
    planes = pages.reshape(-1, PAGE_SIZE // word_bytes, word_bytes).swapaxes(1, 2)
    return numpy.ascontiguousarray(planes).reshape(pages.shape)


def deltas(pages: Pages, word_bytes: int) -> Pages:
    """Return each page with each little-endian word less the word before it; the first stays."""
    words = pages.view(f"<u{word_bytes}")
    made = words.copy()
    made[:, 1:] -= words[:, :-1]
    return made.view(numpy.uint8)


def xor(pages: Pages, word_bytes: int) -> Pages:
    """Return each page with each word XOR the word before it; the first stays."""
    words = pages.view(f"<u{word_bytes}")
    made = words.copy()
    made[:, 1:] ^= words[:, :-1]
    return made.view(numpy.uint8)


TRANSFORMS: dict[str, Callable[[Pages], Pages]] = {
    PLAIN: lambda pages: pages,
    "byte planes of 4-byte words": lambda pages: byte_planes(pages, 4),
    "byte planes of 8-byte words": lambda pages: byte_planes(pages, 8),
    "differences of 4-byte words": lambda pages: deltas(pages, 4),
    "differences of 8-byte words": lambda pages: deltas(pages, 8),
    "XOR of 4-byte words": lambda pages: xor(pages, 4),
    "XOR of 8-byte words": lambda pages: xor(pages, 8),
}
"""Each can be undone, page by page."""


class Encoding(NamedTuple):
    """How transformed pages are compressed."""

    pages: int
    """Encoded as one block."""
    level: int
    """Of zstd, without a dictionary."""


ENCODINGS = {
    "alone by zstd 1": Encoding(1, 1),
    f"alone by zstd {COLD.level}": Encoding(1, COLD.level),
    f"{GROUP_PAGES} together by zstd {COLD.level}": Encoding(GROUP_PAGES, COLD.level),
}


def word_transform_pass(
    images: Sequence[Image], _folder: Path, parameters: Mapping[str, Any]
) -> Result:
    """Encode sampled pages after each of TRANSFORMS in each of ENCODINGS.

    Parameters: `pages` and `seed` as for sample_groups(). The result: `pages`, and `bytes` in all
    by encoding and transform; SMALLEST is that of each block that is shortest.
    """
    content = sample_groups(images, parameters["pages"], parameters["seed"])
    pages = numpy.frombuffer(content, dtype=numpy.uint8).reshape(-1, PAGE_SIZE)
    sizes: dict[str, dict[str, int]] = {encoding: {} for encoding in ENCODINGS}
    shortest: dict[str, list[NDArray[numpy.int64]]] = {encoding: [] for encoding in ENCODINGS}
    for name, transform in TRANSFORMS.items():
        transformed = transform(pages).tobytes()
        for encoding, (together, level) in ENCODINGS.items():
            block_bytes = together * PAGE_SIZE
            _frames, lengths = _kernels.zstd_encode(transformed, block_bytes, level)
            # what does not get shorter is kept as it is
            kept = numpy.minimum(numpy.array(lengths, dtype=numpy.int64), block_bytes)
            sizes[encoding][name] = int(kept.sum())
            shortest[encoding].append(kept)
    for encoding, of_transforms in shortest.items():
        sizes[encoding][SMALLEST] = int(numpy.min(of_transforms, axis=0).sum())
    return {"pages": len(pages), "bytes": sizes}
