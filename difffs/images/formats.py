"""All formats of memory images, and which of them an image is of."""

from difffs.images import (
    avml,
    elf,
    flattened,
    kdump,
    libvirt_save,
    lime,
    migration,
    qcow2,
    shifted,
    xen,
)
from difffs.images.format import Format
from difffs.images.source import PositionedRead

FORMATS: tuple[Format, ...] = (
    migration.FORMAT,
    libvirt_save.FORMAT,
    qcow2.FORMAT,
    xen.FORMAT,
    elf.FORMAT,
    kdump.FORMAT,
    flattened.FORMAT,
    lime.FORMAT,
    avml.FORMAT,
    shifted.FORMAT,
)
"""In the order in which they are tried."""


def format_of(prefix: memoryview) -> Format | None:
    """The format of an image that begins with these bytes, None for plain memory and all else."""
    return next((each for each in FORMATS if each.matches(prefix)), None)


def format_of_size(size: int, read_at: PositionedRead) -> Format | None:
    """The format of a file that no first bytes tell: by its size, and by what is all over it."""
    return shifted.FORMAT if shifted.is_shifted(read_at, size) else None


def format_named(name: str) -> Format | None:
    """The format of that name."""
    return next((each for each in FORMATS if each.name == name), None)
