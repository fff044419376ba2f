"""The guest's memory out of an image of a known format, as a raw file that passes can map."""

from __future__ import annotations

import os
from pathlib import Path

from difffs.errors import UsageError
from difffs.image import ImageReader
from difffs.image_source import source_of
from difffs.images.format import Format
from difffs.images.memory_file import MemoryFile
from difffs.page import PAGE_SIZE
from difffs.progress import Progress
from difffs.study.corpus import Origin


def take_memory(image: ImageReader, form: Format, into: Path, progress: Progress) -> Origin:
    """Write the guest's memory of an open image into a new sparse file; return what is known of the
    image. The progress is told the bytes read of it.

    ``ImageDamaged`` when the image does not hold together, ``UsageError`` when there is no memory
    in it, ``NotThisFormat`` when it is of another format after all. ``OSError`` when the file
    cannot be written; what has been written of it is left.
    """
    source = source_of(image, progress)
    file = os.open(into, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        assembly = MemoryFile(file, image.name)
        form.read(source, assembly)
    finally:
        os.close(file)
    if assembly.length < PAGE_SIZE:
        raise UsageError(
            f"image {image.name} ({form.title}) has {assembly.length:,} bytes of memory: name one"
            " that has a page, or study its bytes with --as-is"
        )
    return Origin(
        Path(image.name),
        str(assembly.facts.get("format", form.name)),
        assembly.compression,
        tuple(assembly.notes),
    )
