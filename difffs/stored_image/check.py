"""Whether the images of a store can be put together: what store.check() cannot know."""

from collections.abc import Iterator

from difffs.errors import DifffsError
from difffs.store import Store
from difffs.store.check import Finding
from difffs.store.inode import Inode
from difffs.stored_image.digest import digest_of
from difffs.stored_image.reading import open_image, volume_reader


def check_images(store: Store, *, whole: bool) -> Iterator[Finding]:
    """Iterates over what is wrong with images (docs/store-format.md, invariant 18). `whole`: each
    is put together and compared with the digest of what was imported."""
    for inode in store.namespace.volumes():
        if inode.is_image:
            try:
                text = _wrong_with(store, inode, whole=whole)
            except DifffsError as error:
                text = str(error)
            if text is not None:
                yield Finding("image", store.namespace.path(inode.number)[1:], text)


def _wrong_with(store: Store, inode: Inode, *, whole: bool) -> str | None:
    image = open_image(inode, volume_reader(store))
    file = image.file()
    if file.size != inode.size:
        return f"its layout is of {file.size:,} bytes, its record says {inode.size:,}"
    if whole and digest_of(file) != image.digest:
        return "its bytes are not those that were imported"
    return None
