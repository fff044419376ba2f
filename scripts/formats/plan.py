"""What is written: the formats, who writes each, and how the files are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PROGRAMS = ("host", "debian-13", "libvirt")
"""This system's QEMU; QEMU and libvirt of a Debian 13 of its own."""
PAUSES = (1, 2)
"""The guest is paused twice."""
PAUSE_SECONDS = 30.0
"""How long it works in between."""

Version = tuple[int, int]
Waiting = Literal["nothing", "incoming", "stopped"]


@dataclass(frozen=True, slots=True)
class Format:
    """A form in which QEMU writes a guest's memory."""

    name: str
    """The end of the file's name."""
    since: Version = (0, 0)
    """The first version of QEMU that knows it."""
    ends: bool = False
    """Whether a guest that wrote it has to run before it can write another: a migration."""
    loads_into: Waiting | None = None
    """How QEMU waits for a file of this form; None: it takes none back."""


MIGRATION = Format("migration", ends=True, loads_into="incoming")
MAPPED_RAM = Format("mapped-ram", since=(9, 0), ends=True, loads_into="incoming")
MULTIFD = Format("mapped-ram-multifd", since=(9, 0), ends=True, loads_into="incoming")
ELF = Format("elf")
ELF_PAGING = Format("elf-paging")
KDUMP_FLAT = Format("kdump-zlib.flat")
KDUMP_RAW = Format("kdump-zlib.raw", since=(8, 2))
SAVEVM = Format("savevm.qcow2", loads_into="stopped")

# Those that leave the guest as it is come first: after a migration it must not be asked again.
FORMATS = (ELF, ELF_PAGING, KDUMP_FLAT, KDUMP_RAW, SAVEVM, MIGRATION, MAPPED_RAM, MULTIFD)

SAVE_FORMATS: dict[str, tuple[str, ...]] = {
    **{
        name: ("--image-format", name)
        for name in ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")
    },
    "sparse-parallel": ("--image-format", "sparse", "--parallel-channels", "2"),
}
"""What ``virsh save`` is told for each form."""
# Before, the format of all saves is in libvirtd's settings, and raw unless they say otherwise.
_CHOOSABLE_SINCE = (11, 2)


def save_formats_of(version: Version) -> dict[str, tuple[str, ...]]:
    """Return the forms in which a version of libvirt saves when asked, with what to tell it."""
    return SAVE_FORMATS if version >= _CHOOSABLE_SINCE else {"raw": ()}


def formats_of(version: Version) -> list[Format]:
    """Return the formats that a version of QEMU writes, in the order of writing."""
    return [one for one in FORMATS if version >= one.since]


def file_name(tool: str, pause: int, ending: str) -> str:
    """Return the name of a file: ``qemu-7.2.pause-1.elf``."""
    return f"{tool}.pause-{pause}.{ending}"


def tool_name(program: str, version: Version) -> str:
    """Return the name that a program's files begin with: ``qemu-7.2``, ``libvirt-11.3``."""
    return f"{program}-{version[0]}.{version[1]}"


def version_of(text: str) -> Version:
    """Read a version out of what a program says about itself; ValueError when there is none.

    ``QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`` gives (7, 2).
    """
    for word in text.split():
        numbers = word.split(".")
        if len(numbers) >= 2 and numbers[0].isdecimal() and numbers[1].isdecimal():
            return int(numbers[0]), int(numbers[1])
    raise ValueError(f"no version in {text!r}")
