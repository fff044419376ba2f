"""An open image as what readers of formats read from."""

from collections.abc import Iterator

from difffs.image import ImageReader
from difffs.images.source import Source
from difffs.progress import Progress

_PIECE = 256 << 10
"""Bytes that a reader gets at a time: what it keeps is of this size, and stays in the processor's
cache."""


def source_of(image: ImageReader, progress: Progress) -> Source:
    """The image's bytes, holes as zeros; the progress is told how many have been read."""

    def pieces() -> Iterator[memoryview]:
        done = 0
        for chunk in image.chunks():
            for start in range(0, len(chunk), _PIECE):
                yield chunk[start : start + _PIECE]
            done += len(chunk)
            progress.update(done)

    return Source(pieces(), name=image.name, size=image.size, read_at=image.read_at)
