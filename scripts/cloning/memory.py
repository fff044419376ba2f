"""What clones take of the host's memory, everything counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from suspending.qemu import Memory
from trial.report import columns, mebibytes

from cloning.process_memory import ProcessMemory, process_memory
from difffs.host_memory import HostMemory, host_memory, resident_of


@dataclass(frozen=True, slots=True)
class ClonesMemory:
    """Bytes that some clones take together."""

    clones: tuple[ProcessMemory, ...]
    host: HostMemory
    """The RAM that all of them read, once: as far as it is in the page cache; the store's files as
    far as they are in memory; the daemon. Its nominal size is that of all clones together."""

    @property
    def parts(self) -> dict[str, int]:
        """All that is counted, by its name."""
        return {
            "guest RAM, read by all": self.host.resident,
            "guest RAM, changed by each": sum(each.changed for each in self.clones),
            "stores": self.host.stores,
            "daemons": self.host.daemons,
            "QEMU, memory of its own": sum(each.own for each in self.clones),
            "QEMU, programs and libraries": sum(each.program for each in self.clones),
            "QEMU, page tables": sum(each.page_tables for each in self.clones),
        }

    @property
    def used(self) -> int:
        """All of it."""
        return sum(self.parts.values())

    @property
    def without_qemu(self) -> int:
        """What keeps the guests' RAM: without the QEMU processes' own memory."""
        return self.host.used + sum(each.changed for each in self.clones)

    def as_json(self) -> dict[str, Any]:
        """All figures, with stable keys."""
        return {
            "nominal": self.host.nominal,
            "resident": self.host.resident,
            "stores": self.host.stores,
            "daemons": self.host.daemons,
            "clones": [{**asdict(each), "private": each.private} for each in self.clones],
            "used": self.used,
            "used_without_qemu": self.without_qemu,
        }


def clones_memory(processes: Sequence[int], memory: Sequence[Memory]) -> ClonesMemory:
    """Look at clones that run on the same files. ``OSError``."""
    nominal = len(processes) * sum(each.size for each in memory)
    host = host_memory(
        nominal,
        resident_of(str(each.file) for each in memory),
        dict.fromkeys(each.mountpoint for each in memory),
    )
    return ClonesMemory(
        tuple(process_memory(each, [one.file for one in memory]) for each in processes), host
    )


def table(found: Sequence[ClonesMemory]) -> str:
    """Return it as people read it, a column for each look."""
    counts = [len(each.clones) for each in found]
    heads = [f"{count} clone" if count == 1 else f"{count} clones" for count in counts]
    rows = [["host memory", *heads]]
    rows += [[name, *(mebibytes(each.parts[name]) for each in found)] for name in found[0].parts]
    rows.append(["all", *(mebibytes(each.used) for each in found)])
    rows.append(["of it without QEMU's own", *(mebibytes(each.without_qemu) for each in found)])
    rows.append(["their RAM, nominally", *(mebibytes(each.host.nominal) for each in found)])
    return "\n".join(columns(rows))
