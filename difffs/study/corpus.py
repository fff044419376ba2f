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

_HASH_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """A raw memory image; page i lies at byte 4096 * i. An incomplete last page is left out."""

    path: Path
    name: str
    pages: int
    sha256: str

    @classmethod
    def of(cls, path: Path, sha256: str | None = None) -> Image:
        """Describe a file; hashes it unless told. UsageError when it cannot be read or is empty."""
        try:
            pages = path.stat().st_size // PAGE_SIZE
            if path.is_dir() or not pages:
                raise UsageError(f"image {path} is no file of at least a page: name an image")
            return cls(path, path.stem, pages, sha256 or _sha256(path))
        except OSError as error:
            raise UsageError(
                f"image {path} cannot be read: {error.strerror}; check the path"
            ) from None

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


def _sha256(path: Path) -> str:
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


def group_by_folder(images: Sequence[Image]) -> list[Corpus]:
    """Return a corpus for each folder that images lie in, in order of appearance."""
    corpora: dict[str, list[Image]] = {}
    for image in images:
        folder = os.path.basename(os.path.abspath(image.path.parent))
        corpora.setdefault(folder, []).append(image)
    return [Corpus(name, tuple(members)) for name, members in corpora.items()]
