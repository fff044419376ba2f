"""Images by content: wherever a worker has them, or in the folder that a cluster shares."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from difffs.page import PAGE_SIZE
from difffs.standard_streams import output_problem
from difffs.study.corpus import Image, digest_of_file

FOLDERS_VARIABLE = "DIFFFS_STUDY_IMAGES"
"""Environment of a worker: folders with images, as PATH lists folders."""


def shared_file(shared: Path, image: Image) -> Path:
    """Return where an image is in a shared folder, if it is there."""
    return shared / "images" / f"{image.sha256}.mem"


def share(image: Image, shared: Path) -> None:
    """Copy an image into a shared folder, whole or not at all. OutputProblem when that fails."""
    wanted = shared_file(shared, image)
    if wanted.exists():
        return
    try:
        wanted.parent.mkdir(exist_ok=True)
        temporary = wanted.with_name(f".new-{uuid.uuid4().hex}")
        try:
            shutil.copyfile(image.path, temporary)
            os.replace(temporary, wanted)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise output_problem(str(wanted), error) from None


class ImageFinder:
    """Finds files by content, and remembers what it has read as long as they stay as they are."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Also look into these folders, and below them."""
        self._folders = folders
        self._digests: dict[tuple[int, ...], str] = {}
        self._lock = threading.Lock()

    @classmethod
    def of_environment(cls) -> ImageFinder:
        """As the variable DIFFFS_STUDY_IMAGES says."""
        named = os.environ.get(FOLDERS_VARIABLE, "")
        return cls([Path(folder) for folder in named.split(os.pathsep) if folder])

    def find(self, image: Image, shared: Path) -> Path | None:
        """Return a file with the image's content: that of its path, or in the shared folder, or in
        one of the folders. None when there is none that can be read."""
        with self._lock:  # two threads would read the same file
            for path in self._candidates(image, shared):
                try:
                    if self._digest(path, image) == image.sha256:
                        return path
                except OSError:
                    continue
        return None

    def _candidates(self, image: Image, shared: Path) -> Iterator[Path]:
        yield image.path
        yield shared_file(shared, image)
        for folder in self._folders:
            files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
            # most likely it is called the same
            yield from sorted(files, key=lambda path: (path.name != image.path.name, path))

    def _digest(self, path: Path, image: Image) -> str | None:
        """None for a file of another size, which need not be read."""
        status = path.stat()
        if status.st_size // PAGE_SIZE != image.pages or not path.is_file():
            return None
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if key not in self._digests:
            self._digests[key] = digest_of_file(path)
        return self._digests[key]
