"""The kernel's tables of mounts: this process's, and those of other mount namespaces."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the kernel's mount table."""

    mountpoint: str
    source: str
    kind: str
    options: tuple[str, ...]
    """Those of the file system, not of the mount point."""
    flags: tuple[str, ...]
    """Those of the mount point."""
    device: int
    """``st_dev`` of the files in it."""


@dataclass(frozen=True, slots=True)
class MountOfProcess:
    """A mount as the process sees it, in whose mount namespace it is."""

    process: int
    mount: Mount

    @property
    def command(self) -> str:
        """The name of the process's program; empty when it is gone."""
        return command_of(self.process)


def unescape(field: bytes) -> str:
    """Return the text of a field in which the kernel wrote blanks as ``\\040`` and the like."""
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), field)
    return os.fsdecode(raw)


def lines_of(table: bytes) -> list[bytes]:
    """Return the lines of a kernel's table.

    Only ``\\n`` ends one: names may hold everything else that Python takes for the end of a line.
    """
    return table.removesuffix(b"\n").split(b"\n") if table else []


def parse(table: bytes) -> Iterator[Mount]:
    """Iterate over the mounts in a ``mountinfo``, the uppermost of a mount point last."""
    for line in lines_of(table):
        head, _, tail = line.partition(b" - ")
        _, _, device, _, mountpoint, flags, *_ = head.split(b" ")
        kind, source, options = tail.split(b" ", 2)
        major, _, minor = device.partition(b":")
        yield Mount(
            unescape(mountpoint),
            unescape(source),
            unescape(kind),
            tuple(unescape(option) for option in options.split(b",")),
            tuple(os.fsdecode(flags).split(",")),
            os.makedev(int(major), int(minor)),
        )


def mounts(process: int | None = None) -> Iterator[Mount]:
    """Iterate over the mounts that a process (by default this one) sees. ``OSError``."""
    who = "self" if process is None else str(process)
    return parse(Path(f"/proc/{who}/mountinfo").read_bytes())


def mounts_everywhere() -> Iterator[MountOfProcess]:
    """Iterate over the mounts of all mount namespaces that can be looked into, this one first.

    Namespaces are found by their processes; one of each is named.
    """
    seen = set()
    for process in [os.getpid(), *sorted(processes())]:
        with suppress(OSError):  # it ended, or it is not ours to look at
            namespace = mount_namespace(process)
            if namespace not in seen:
                table = list(mounts(process))
                seen.add(namespace)
                for mount in table:
                    yield MountOfProcess(process, mount)


def processes() -> Iterator[int]:
    """Iterate over the ids of all processes that this one sees."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def mount_namespace(process: int) -> str:
    """Name the mount namespace of a process. ``OSError``."""
    return os.readlink(f"/proc/{process}/ns/mnt")


def command_of(process: int) -> str:
    """Return the name of a process's program; empty when it is gone."""
    try:
        name = Path(f"/proc/{process}/comm").read_bytes()
    except OSError:
        return ""
    return os.fsdecode(name.removesuffix(b"\n"))
