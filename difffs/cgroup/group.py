"""A memory control group that was made for a command: its limit, and what it uses.

Nothing else needs to know of which version control groups are, but for two things that a kernel may
not tell: version 1 has no pressure of groups, and a limit of version 2 is the kind that holds back
(``memory.high``), not the kind that kills.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from difffs.cgroup.finding import MemoryGroup
from difffs.errors import EnvironmentProblem

_REMOVAL_SECONDS = 5.0
"""Processes that have just ended are charged a moment longer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group uses, in bytes, and what it has had to wait for since it was made."""

    resident: int
    """All that is charged to the group."""
    peak: int
    """The most that ever was."""
    anonymous: int
    """Memory of the processes' own."""
    cached: int
    """Pages of files, guest RAM on a mount among them."""
    refaults: int
    """Pages that were taken from the group and needed again soon after."""
    waited_us: int | None
    """Time in which at least one process waited for memory; None where the kernel does not tell."""


class Group(ABC):
    """A group of processes with a common limit on resident memory."""

    version: int

    def __init__(self, folder: Path) -> None:
        """Take over a group that has been made."""
        self.folder = folder

    @abstractmethod
    def set_limit(self, limit: int | None) -> bool:
        """Limit resident memory to so many bytes; None: no limit.

        What is above the limit is moved out before this returns, as far as it can be: that may take
        seconds. False when the kernel found too little that could leave; a version 1 then keeps its
        former limit. ``OSError``.
        """

    @abstractmethod
    def usage(self) -> Usage:
        """What it uses now. ``OSError``."""

    def enter(self) -> None:
        """Move the calling process in. ``OSError``."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self) -> list[int]:
        """Who is in it. ``OSError``."""
        return [int(word) for word in (self.folder / "cgroup.procs").read_text().split()]

    def remove(self) -> bool:
        """Remove the group, once nobody is in it; False when somebody stays."""
        until = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                self.folder.rmdir()
            except FileNotFoundError:
                return True
            except OSError:
                if time.monotonic() > until or self.processes():
                    return False
                time.sleep(0.05)
            else:
                return True

    def _number(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def _statistics(self) -> dict[str, int]:
        lines = (self.folder / "memory.stat").read_text().splitlines()
        return {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}


class Version1Group(Group):
    """A group of the memory controller's own hierarchy."""

    version = 1

    def set_limit(self, limit: int | None) -> bool:
        """As the base says."""
        return _written(self.folder / "memory.limit_in_bytes", -1 if limit is None else limit)

    def usage(self) -> Usage:
        """As the base says."""
        found = self._statistics()
        refaults = sum(
            count for name, count in found.items() if name.startswith("total_workingset_refault")
        )
        return Usage(
            resident=self._number("memory.usage_in_bytes"),
            peak=self._number("memory.max_usage_in_bytes"),
            anonymous=found["total_rss"],
            cached=found["total_cache"],
            refaults=refaults,
            waited_us=None,
        )


class Version2Group(Group):
    """A group of the common hierarchy."""

    version = 2

    def set_limit(self, limit: int | None) -> bool:
        """As the base says."""
        return _written(self.folder / "memory.high", "max" if limit is None else limit)

    def usage(self) -> Usage:
        """As the base says."""
        found = self._statistics()
        resident = self._number("memory.current")
        peak = self.folder / "memory.peak"  # Linux 5.19
        return Usage(
            resident=resident,
            peak=int(peak.read_text()) if peak.exists() else resident,
            anonymous=found["anon"],
            cached=found["file"],
            refaults=sum(
                found.get(name, 0)
                for name in ("workingset_refault_anon", "workingset_refault_file")
            ),
            waited_us=self._waited_us(),
        )

    def _waited_us(self) -> int | None:
        try:
            text = (self.folder / "memory.pressure").read_text()
        except OSError:  # no such file, or a kernel booted with psi=0
            return None
        for line in text.splitlines():
            if line.startswith("some "):
                return int(line.rpartition("total=")[2])
        return None


def _written(file: Path, value: int | str) -> bool:
    try:
        file.write_text(str(value))
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            return False
        raise
    return True


def make_group(own: MemoryGroup | None, name: str) -> Group:
    """Make a group with this name where this process may. ``EnvironmentProblem``."""
    if own is None:
        raise EnvironmentProblem(
            "no control groups with the memory controller are mounted, and nothing else limits what"
            " stays resident: see difffs doctor"
        )
    problem = ""
    for parent in _parents(own):
        folder = parent / name
        if own.version == 2:
            # Fails where it is not needed, where it is not allowed, and where the parent has
            # processes of its own: whether the group has the controller is looked at below.
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text("+memory")
        try:
            folder.mkdir()
        except OSError as error:
            problem = problem or f"{folder} cannot be made: {error.strerror}"
            continue
        if own.version == 1:
            return Version1Group(folder)
        if (folder / "memory.high").exists():
            return Version2Group(folder)
        folder.rmdir()
        problem = problem or f"{parent} does not give its groups the memory controller"
    remedy = (
        "run it as root, or as systemd-run --user --scope -p Delegate=yes difffs run ..."
        if own.version == 2
        else f"run it as root, or as root: chown -R USER {own.folder}"
    )
    raise EnvironmentProblem(f"{problem}; {remedy}")


def _parents(own: MemoryGroup) -> list[Path]:
    """Where a group may be made, the nearest first.

    In version 2 a group with processes has no groups with controllers below it: beside the own
    group there is room, as a rule.
    """
    top, folder = Path(own.hierarchy), Path(own.folder)
    beside = [folder.parent] if own.version == 2 and folder != top else []
    return list(dict.fromkeys([*beside, folder, top]))
