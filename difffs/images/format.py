"""What is known of one format of memory images."""

from collections.abc import Callable
from dataclasses import dataclass

from difffs.images.assembly import Assembly
from difffs.images.source import Source

PREFIX_BYTES = 64 << 10
"""Bytes from an image's start that are enough to know its format."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format: how it is recognised, and who reads it."""

    name: str
    """As ``--format`` takes it: ``migration``, ``elf``, ..."""
    title: str
    """For people: "QEMU migration stream"."""
    matches: Callable[[memoryview], bool]
    """Whether an image that begins with these bytes (PREFIX_BYTES, fewer of a shorter image) is of
    this format. By its magic number, and what else tells it from what only looks like it; a file
    that is of this format and damaged must match."""
    read: Callable[[Source, Assembly], None]
    """Tells the assembly what the whole image is made of, up to its last byte. ``ImageDamaged``
    when it does not hold together, ``NotThisFormat`` when it is none of these after all."""
    anywhere: bool = False
    """Whether it reads by ``Source.read_at`` only, in any order, and takes nothing of the source:
    then the source's digest is of no byte, and whoever wants one makes it apart."""
    unmarked: bool = False
    """Whether first bytes do not tell the format at all, so that matches() never holds."""

    def is_like(self, prefix: memoryview) -> bool:
        """Whether an image may be of this format, by its first bytes, if they tell."""
        return self.unmarked or self.matches(prefix)


class NotThisFormat(Exception):
    """Raised by a reader before it has covered or taken anything: the image only looks like one of
    its format (a core dump of a process, say, is ELF too). The text says what it is."""
