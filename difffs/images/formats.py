"""All formats of memory images, and which of them an image is of.

Readers are imported when an image may be theirs: most images are plain, and need none.
"""

import importlib

from difffs.images.format import Format
from difffs.images.source import PositionedRead
from difffs.page import PAGE_SIZE

_MODULES: dict[str, tuple[bytes, ...]] = {
    "migration": (b"QEVM",),
    "libvirt-save": (b"LibvirtQemud",),
    "qcow2": (b"QFI\xfb",),
    "xen": (b"\x7fELF",),
    "elf": (b"\x7fELF",),
    "kdump": (b"KDUMP   ", b"DISKDUMP"),
    "flattened": (b"makedumpfile",),
    "lime": (b"EMiL", b"LiME"),
    "avml": (b"AVML",),
    "shifted": (),
}
"""Formats by name, in the order in which they are tried: the bytes that images of each begin with.
A format of the name ``a-b`` is ``FORMAT`` of the module ``a_b``."""

FORMAT_NAMES = tuple(_MODULES)
"""As ``--format`` takes them."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x89LZO", b"\x28\xb5\x2f\xfd")


def format_named(name: str) -> Format:
    """The format of one of FORMAT_NAMES."""
    form: Format = importlib.import_module(f"difffs.images.{name.replace('-', '_')}").FORMAT
    return form


def format_of(prefix: memoryview) -> Format | None:
    """The format of an image that begins with these bytes, None for plain memory and all else."""
    start = bytes(prefix[:16])
    for name, beginnings in _MODULES.items():
        if start.startswith(beginnings):
            form = format_named(name)
            if form.matches(prefix):
                return form
    return None


def format_of_size(size: int, read_at: PositionedRead) -> Format | None:
    """The format of a file that no first bytes tell: by its size, and by what is all over it."""
    if size % PAGE_SIZE == 0:
        return None
    from difffs.images import shifted

    return shifted.FORMAT if shifted.is_shifted(read_at, size) else None


def compression_of(prefix: memoryview) -> str | None:
    """What an image that begins with these bytes is compressed by, None if it is not."""
    if not bytes(prefix[:8]).startswith(_COMPRESSED):
        return None
    from difffs.images import compression

    return compression.compression_of(prefix)
