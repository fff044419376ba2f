"""Taking an image of a known format into a store."""

import os

from difffs.engine import Engine
from difffs.errors import ImageDamaged
from difffs.images.format import Format
from difffs.images.source import Source
from difffs.store import Store
from difffs.stored_image.assembly import StoredAssembly
from difffs.stored_image.digest import digest_of
from difffs.stored_image.reading import open_image, volume_reader


def store_image(
    engine: Engine, source: Source, form: Format, mode: int, domain: int = 0
) -> StoredAssembly:
    """Store an image in a domain; what is made has no names yet, and is removed again when this
    fails.

    The file is rebuilt from what is stored and compared before this returns. ``ImageDamaged`` when
    it does not hold together; ``NotThisFormat`` when it is of another format after all: then
    nothing of the source is taken.
    """
    assembly = StoredAssembly(engine, source.name, mode, os.getuid(), os.getgid(), domain)
    try:
        form.read(source, assembly)
        _finish(assembly, source, form)
    except Exception:  # and no signal: it may have come in the middle of a change
        remove_parts(engine.store, assembly)
        raise
    return assembly


def _finish(assembly: StoredAssembly, source: Source, form: Format) -> None:
    if form.anywhere:
        for _piece in source.rest():  # for its digest
            pass
    if not source.at_end:
        raise RuntimeError(f"the reader of {form.name} has left bytes behind {source.position:,}")
    inner = source if source.unpacked is None else source.unpacked
    assembly.finish(
        inner.digest,
        packed_digest=None if source.unpacked is None else source.digest,
        packed_size=source.position,
    )
    image = open_image(assembly.image, volume_reader(assembly.store))
    if digest_of(image.file()) != inner.digest:
        raise ImageDamaged(
            f"image {source.name} cannot be rebuilt from its parts; store it --as-is, and report"
            " this"
        )


def remove_parts(store: Store, assembly: StoredAssembly) -> None:
    """Remove what has been stored of an image without names."""
    with store.lock:
        for inode in assembly.inodes():
            if not inode.nlink:
                store.remove(inode.number)
