"""Images and corpora: which pages a study looks at."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from difffs.errors import UsageError
from difffs.page import PAGE_SIZE

RAW = "raw"
"""The format of images whose bytes are the memory."""

_HASH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that an image was given as."""

    file: Path
    format: str = RAW
    """Any other: the image is the guest's memory that was taken out of the file."""
    compression: str | None = None
    """What the file is compressed by."""
    notes: tuple[str, ...] = ()
    """What a person should know of it: each a line."""


@dataclass(frozen=True, slots=True)
class Image:
    """A raw memory image; page i lies at byte 4096 * i. An incomplete last page is left out."""

    path: Path
    name: str
    pages: int
    sha256: str
    """Of the memory: the same whatever format it was given in."""
    taken_from: Origin | None = None

    @classmethod
    def of(cls, path: Path, origin: Origin | None = None) -> Image:
        """Describe a file, which is hashed, called like that which it was taken from. UsageError
        when it cannot be read or is empty."""
        try:
            pages = path.stat().st_size // PAGE_SIZE
            if path.is_dir() or not pages:
                raise UsageError(f"image {path} is no file of at least a page: name an image")
            name = path.stem if origin is None else origin.file.stem
            return cls(path, name, pages, digest_of_file(path), origin)
        except OSError as error:
            raise UsageError(
                f"image {path} cannot be read: {error.strerror}; check the path"
            ) from None

    @property
    def origin(self) -> Origin:
        """The file that it was given as."""
        return self.taken_from or Origin(self.path)

    @contextmanager
    def mapped(self) -> Iterator[memoryview]:
        """Yield the image's whole pages, read-only. Slices of them stay valid as long as kept."""
        with self.path.open("rb") as file:
            # not closed here, which a slice that is still referred to would not allow: unmapped
            # with the last of them
            mapping = mmap.mmap(file.fileno(), self.pages * PAGE_SIZE, prot=mmap.PROT_READ)
        mapping.madvise(mmap.MADV_SEQUENTIAL)
        with memoryview(mapping) as view:
            del mapping
            yield view


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_HASH_BYTES))
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            digest.update(buffer[:length])
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Corpus:
    """Images that share one store, in order: each folder of images is a corpus, named like it."""

    name: str
    images: tuple[Image, ...]

    @property
    def pages(self) -> int:
        """Pages of all images."""
        return sum(image.pages for image in self.images)

    @property
    def bytes(self) -> int:
        """Logical bytes of all images."""
        return self.pages * PAGE_SIZE


def corpus_name(file: Path) -> str:
    """Return the name of the corpus that an image given as this file belongs to: its folder's."""
    return os.path.basename(os.path.abspath(file.parent))


def group_by_folder(images: Sequence[Image]) -> list[Corpus]:
    """Return a corpus for each folder that images lie in, in order of appearance."""
    corpora: dict[str, list[Image]] = {}
    for image in images:
        corpora.setdefault(corpus_name(image.origin.file), []).append(image)
    return [Corpus(name, tuple(members)) for name, members in corpora.items()]
