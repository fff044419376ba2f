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
    xen,
)
from difffs.images.format import Format

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
)
"""In the order in which they are tried."""


def format_of(prefix: memoryview) -> Format | None:
    """The format of an image that begins with these bytes, None for plain memory and all else."""
    return next((each for each in FORMATS if each.matches(prefix)), None)


def format_named(name: str) -> Format | None:
    """The format of that name."""
    return next((each for each in FORMATS if each.name == name), None)
