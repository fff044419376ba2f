"""Images that are open in the mount: files that are made up of two volumes, read anywhere.

A read takes the volumes' lock for each piece of a volume that it needs, and not for as long as it
lasts: others wait for a megabyte of pages at most. Reads of images wait for one another (`_lock`,
taken before the volumes').
"""

import errno
import threading
from collections import OrderedDict

from difffs.errors import CorruptStore
from difffs.images.composed import ComposedFile
from difffs.store.inode import Inode
from difffs.stored_image.reading import open_image
from difffs.volume import Volumes

_KEPT_FILES = 8
"""Files whose layout is at hand: a MiB or three each, made again when it is needed again."""


class OpenImages:
    """The files of images. ``DifffsError`` from any method: the image, or a page of its volumes,
    is damaged or of a later version."""

    def __init__(self, volumes: Volumes) -> None:
        """Read the parts of images through ``volumes``."""
        self._volumes = volumes
        self._files: OrderedDict[int, ComposedFile] = OrderedDict()
        self._lock = threading.Lock()

    def read_into(self, image: Inode, offset: int, out: memoryview) -> int:
        """Fill ``out`` from ``offset`` on; return how many bytes of it count, fewer at the end."""
        with self._lock:
            return self._file(image).read_into(offset, out)

    def seek_data(self, image: Inode, offset: int) -> int:
        """Return the first byte of data at or behind ``offset``; ENXIO when there is none."""
        start, end = self._hole(image, offset)
        found = end if start == offset else offset
        if found >= image.size:
            raise OSError(errno.ENXIO, "no data behind that offset")
        return found

    def seek_hole(self, image: Inode, offset: int) -> int:
        """Return the first hole at or behind ``offset``; the file's end counts as one. ENXIO behind
        it."""
        if offset >= image.size:
            raise OSError(errno.ENXIO, "offset behind the end")
        return self._hole(image, offset)[0]

    def _hole(self, image: Inode, offset: int) -> tuple[int, int]:
        if offset >= image.size:
            return image.size, image.size
        with self._lock:
            return self._file(image).hole(offset)

    def forget(self, number: int) -> None:
        """Let go of what is kept for an image that nobody has open any more."""
        with self._lock:
            self._files.pop(number, None)

    def _file(self, image: Inode) -> ComposedFile:
        file = self._files.get(image.number)
        if file is not None:
            self._files.move_to_end(image.number)
            return file
        file = open_image(image, self._read_part).file()
        if file.size != image.size:
            raise CorruptStore(
                f"the image's layout is of {file.size:,} bytes, its record says {image.size:,}:"
                " run `difffs check`"
            )
        self._files[image.number] = file
        if len(self._files) > _KEPT_FILES:
            self._files.popitem(last=False)
        return file

    def _read_part(self, number: int, offset: int, out: memoryview) -> None:
        """Fill ``out`` with bytes of a volume that has them all."""
        try:
            count = self._volumes.read_into(number, offset, out)
        except FileNotFoundError:
            raise CorruptStore(
                "one of the volumes that the image is made up of is missing: run `difffs check`"
            ) from None
        if count != len(out):
            raise CorruptStore(
                "the image's layout names bytes behind the end of one of its volumes: run"
                " `difffs check`"
            )
