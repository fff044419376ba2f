"""Ways to have the RAM of several guests, and what each of them takes of the host's memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from trial.guest import Guest
from trial.guest_group import GuestGroup
from trial.mappings import mappings

from benchmark import mounts
from benchmark.swapping import ZramArea
from difffs.host_memory import host_memory, resident_of
from difffs.page import PAGE_SIZE

MIB = 1 << 20
_KSM = Path("/sys/kernel/mm/ksm")
_KSM_PAGES_A_TURN = 1250
"""Every 20 ms: as far as ksmtuned goes. With the kernel's own 100 a pass over four guests of
256 MiB would take a minute."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes of the host's memory at one moment."""

    resident: int
    """Guest pages that are there as they are."""
    kept: int
    """What keeps the others: store, device, tables."""
    daemons: int
    """Processes that this takes beside QEMU, their buffers included."""
    own: int
    """QEMU's own memory, which has nothing to do with where the RAM is."""

    @property
    def used(self) -> int:
        """All that the guests' RAM takes."""
        return self.resident + self.kept + self.daemons


@dataclass(frozen=True, slots=True)
class Running:
    """Guests that run, and a look at what they take."""

    group: GuestGroup
    look: Callable[[], Cost]


MakeGuests = Callable[[str, Path], Sequence[Guest]]
"""From a kind of RAM, as :class:`trial.guest.Guest` has it, and the folder of its files."""

Way = Callable[[MakeGuests, Path], AbstractContextManager[Running]]
"""Has guests run in an empty folder for as long as the context is there."""


def ksm_obstacle() -> str | None:
    """Say why nothing can be merged here, or None."""
    return (
        None if (_KSM / "general_profit").exists() else "no KSM that tells its profit (Linux 6.4)"
    )


@contextmanager
def plain(make: MakeGuests, folder: Path) -> Iterator[Running]:
    """QEMU's own memory."""
    with GuestGroup(make("plain", folder), folder) as group:
        yield Running(group, partial(_of_anonymous, group))


@contextmanager
def merged(make: MakeGuests, folder: Path) -> Iterator[Running]:
    """The same, given to KSM."""
    former = {name: (_KSM / name).read_text() for name in ("run", "pages_to_scan")}
    with GuestGroup(make("mergeable", folder), folder) as group:
        (_KSM / "pages_to_scan").write_text(str(_KSM_PAGES_A_TURN))
        (_KSM / "run").write_text("1")
        try:
            yield Running(group, lambda: _less_what_is_merged(_of_anonymous(group)))
        finally:
            (_KSM / "run").write_text("2")  # takes apart what was merged
            for name, value in former.items():
                (_KSM / name).write_text(value)


def _less_what_is_merged(cost: Cost) -> Cost:
    sharing = int((_KSM / "pages_sharing").read_text()) * PAGE_SIZE
    profit = int((_KSM / "general_profit").read_text())  # less what KSM notes of each page
    return replace(cost, resident=cost.resident - sharing, kept=sharing - profit)


def on_zram(limit: int) -> Way:
    """The same, with this limit in bytes on what QEMU has resident, and zram to swap to.

    The group is made by ``difffs run``, as those of difffs are: one that does not kill. That
    process is not counted here: any means of setting a limit would do.
    """

    @contextmanager
    def running(make: MakeGuests, folder: Path) -> Iterator[Running]:
        guests = make("plain", folder)
        room = sum(guest.mebibytes for guest in guests) * MIB
        with (
            ZramArea(room) as area,
            GuestGroup(guests, folder, _limited(str(limit))) as group,
        ):

            def look() -> Cost:
                return replace(_of_anonymous(group), kept=area.memory()["device"])

            yield Running(group, look)

    return running


def on_difffs(rule: str) -> Way:
    """Files of a mount, resident as ``difffs run --resident`` has it; the store in memory."""

    @contextmanager
    def running(make: MakeGuests, folder: Path) -> Iterator[Running]:
        with mounts.Difffs(folder / "difffs", folder / "store") as mount:
            guests = make("file", mount.folder)
            files = [str(guest.memory) for guest in guests]
            nominal = sum(guest.mebibytes for guest in guests) * MIB
            with GuestGroup(guests, folder, _limited(rule)) as group:

                def look() -> Cost:
                    found = host_memory(nominal, resident_of(files), [str(mount.folder)])
                    watching = _of_processes([group.process.pid], ())[1]
                    own = _of_processes(group.processes(), files)[1]
                    return Cost(found.resident, found.stores, found.daemons + watching, own)

                yield Running(group, look)

    return running


def _limited(rule: str) -> list[str]:
    return [sys.executable, "-m", "difffs", "run", "--quiet", "--resident", rule, "--"]


def _of_anonymous(group: GuestGroup) -> Cost:
    """Where RAM is a mapping of that very size."""
    size = group.guests[0].mebibytes * MIB
    resident, own = _of_processes(group.processes(), (), size)
    return Cost(resident, kept=0, daemons=0, own=own)


def _of_processes(
    processes: Sequence[int], files: Sequence[str], size: int | None = None
) -> tuple[int, int]:
    """What is resident of RAM, and the processes' part of all else that they have."""
    ram = own = 0
    for process in processes:
        with suppress(OSError):  # it has ended meanwhile
            for one in mappings(process):
                path = one.place.path
                if path in files or (not path and one.size == size):
                    ram += one.resident
                else:
                    own += one.proportional
    return ram, own
