"""Compressing again by the likeliest way."""

from collections.abc import Iterable, Iterator

from difffs.images.repacking import repackings


def repacked(kind: str, pieces: Iterable[memoryview | bytes], like: bytes = b"") -> Iterator[bytes]:
    """The compressed form of a stream by the first of repackings()."""
    return repackings(kind, like)[0].pieces(pieces)
