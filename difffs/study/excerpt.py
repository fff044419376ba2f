"""A part of each image of a corpus, for imports that would take too long with the whole."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from difffs.engine import BATCH_PAGES
from difffs.page import PAGE_SIZE
from difffs.study.cache import Result
from difffs.study.corpus import Image
from difffs.study.importing import RECIPE_PASS_VERSION, recipe_pass

EXCERPT_PASS_VERSION = RECIPE_PASS_VERSION

WINDOW_PAGES = BATCH_PAGES
"""Neighbouring pages stay together: they are alike, and are routed in one batch."""


def excerpt(images: Sequence[Image], folder: Path, pages: int, seed: int) -> list[Image]:
    """Return about `pages` pages of the images, as images in `folder`; all when there are no more.

    Windows of 512 pages, drawn at random but at the same places in every image, since guests of
    one installation have much at the same places. An image without any of them is left out.
    """
    total = sum(image.pages for image in images)
    if total <= pages:
        return list(images)
    windows = -(-max(image.pages for image in images) // WINDOW_PAGES)
    wanted = max(1, round(windows * pages / total))
    chosen = sorted(random.Random(seed).sample(range(windows), wanted))
    parts = []
    for number, image in enumerate(images):
        path = folder / f"excerpt-{number}"
        size = WINDOW_PAGES * PAGE_SIZE
        with image.mapped() as content, path.open("wb") as file:
            for window in chosen:
                with content[window * size : (window + 1) * size] as part:
                    file.write(part)
            length = file.tell()
        if length:
            parts.append(Image(path, image.name, length // PAGE_SIZE, sha256=""))
    return parts


def excerpt_pass(images: Sequence[Image], folder: Path, parameters: Mapping[str, Any]) -> Result:
    """Import an excerpt; the result is that of recipe_pass.

    Parameters: `pages` and `seed` as for excerpt(), and those of recipe_pass.
    """
    parts = excerpt(images, folder, parameters["pages"], parameters["seed"])
    return recipe_pass(parts, folder, parameters)
